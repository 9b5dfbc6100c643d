//! The scenarios in `scenarios/` end as they say.

#![allow(clippy::unwrap_used)]

use core::time::Duration;
use std::path::{Path, PathBuf};

use baton_netsim::{Options, Story, Summary, run};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn play(path: &Path) -> Summary {
    let story = Story::read(&std::fs::read_to_string(path).unwrap());
    let story = story.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let seed = story.seed;
    let options = Options { picture: true, ..Options::of(story) };
    run(seed, &options).unwrap_or_else(|it| panic!("{}: {}", path.display(), it.reason))
}

#[test]
fn every_scenario_ends_as_it_says() {
    let mut ran = 0;
    for file in std::fs::read_dir(scenarios()).unwrap() {
        let summary = play(&file.unwrap().path());
        assert!(summary.picture.unwrap().ends_with("</svg>\n"));
        ran += 1;
    }
    assert!(ran >= 5, "{ran} scenarios");
}

/// It is asked again a moment later, and not when the answer would be overdue: a second would be lost.
#[test]
fn a_leader_that_does_not_know_its_own_permit_yet_holds_nobody_up() {
    let summary = play(&scenarios().join("slow-leader.toml"));
    assert_eq!(summary.tally.permits, 40);
    let waited = |it: &baton_netsim::Restart| it.begun.unwrap() - it.granted;
    let longest = summary.restarts.iter().map(waited).max().unwrap();
    assert!(longest < Duration::from_millis(700), "{longest:?}");
    let most = summary.restarts.iter().map(|it| it.asked).max().unwrap();
    assert!(most > 1, "nobody was told no: the scenario does not show what it is for");
}

#[test]
fn a_scenario_with_a_word_that_is_none_is_refused_by_its_place() {
    let text = "about = \"x\"\nseed = 1\nhosts = 3\ncap = 1\nreleases = []\nends = \"done\"\n\
                [[fault]]\nat = 1.0\nkind = \"crash\"\nhost = 1\nwiat = 2.0\n";
    assert!(Story::read(text).unwrap_err().to_string().contains("wait"));
}
