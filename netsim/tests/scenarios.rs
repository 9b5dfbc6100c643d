//! The scenarios in `scenarios/` end as they say.

use std::path::Path;

use baton_netsim::{Options, Story, run};

#[test]
fn every_scenario_ends_as_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut ran = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let story = Story::read(&std::fs::read_to_string(&path).unwrap());
        let story = story.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let seed = story.seed;
        let options = Options { picture: true, ..Options::of(story) };
        let summary = run(seed, &options);
        let summary = summary.unwrap_or_else(|it| panic!("{}: {}", path.display(), it.reason));
        assert!(summary.picture.unwrap().ends_with("</svg>\n"));
        ran += 1;
    }
    assert!(ran >= 5, "{ran} scenarios");
}

#[test]
fn a_scenario_with_a_word_that_is_none_is_refused_by_its_place() {
    let text = "about = \"x\"\nseed = 1\nhosts = 3\ncap = 1\nreleases = []\nends = \"done\"\n\
                [[fault]]\nat = 1.0\nkind = \"crash\"\nhost = 1\nwiat = 2.0\n";
    assert!(Story::read(text).unwrap_err().to_string().contains("wait"));
}
