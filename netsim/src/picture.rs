//! A picture of a run: who was out of service when, under which permits; how releases spread.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::BTreeMap;

use baton_protocol::id::ReleaseId;

use crate::chronicle::{Chronicle, Daemon, Held, Span, Stand};

const LEFT: f64 = 90.0;
const WIDTH: f64 = 1180.0;
const ROW: f64 = 22.0;
const TOP: f64 = 92.0;
const PANEL: f64 = 90.0;

/// Colours of a service that serves, by the release that it runs.
const RELEASES: [&str; 6] = ["#b7dfc4", "#a9cce8", "#d7c3ea", "#f2d9a6", "#bfe3e0", "#e6c6cf"];
const TAKEN: &str = "#f08c2e";
const OUT: &str = "#c62f2f";

/// Seconds between two marks of the axis, of which the first that leaves room for its words is used.
const MARKS: [u64; 6] = [5, 10, 30, 60, 120, 300];

const STYLE: &str = "text{font:12px sans-serif;fill:#222}.small{font-size:10px;fill:#555}\
                     .title{font-size:16px;font-weight:bold}.axis{stroke:#ddd}.fault{stroke:#c62f2f;\
                     stroke-dasharray:2 2;stroke-opacity:.5}.line{fill:none;stroke-width:1.8}";

/// The picture, as SVG.
pub(crate) fn draw(chronicle: &Chronicle, title: &str) -> String {
    let picture = Picture { chronicle, colours: colours(chronicle), out: String::new() };
    picture.draw(title)
}

fn colours(chronicle: &Chronicle) -> BTreeMap<ReleaseId, &'static str> {
    let mut first: Vec<_> =
        chronicle.spread.iter().map(|(id, steps)| (steps.first(), *id)).collect();
    first.sort();
    first.into_iter().map(|(_, id)| id).zip(RELEASES.into_iter().cycle()).collect()
}

struct Picture<'a> {
    chronicle: &'a Chronicle,
    colours: BTreeMap<ReleaseId, &'static str>,
    out: String,
}

impl Picture<'_> {
    fn draw(mut self, title: &str) -> String {
        let rows = self.chronicle.hosts.len() as f64 * ROW;
        let height = TOP + rows + 2.0 * PANEL + 90.0;
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\"><style>{STYLE}</style>\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
            LEFT + WIDTH + 30.0,
        );
        self.text(12.0, 24.0, "title", title);
        self.legend();
        let bottom = TOP + rows + 2.0 * PANEL + 50.0;
        self.axis(bottom);
        for (host, spans) in self.chronicle.hosts.iter().enumerate() {
            self.row(TOP + host as f64 * ROW, host, spans);
        }
        self.faults(bottom);
        self.cap(TOP + rows + 20.0);
        self.spread(TOP + rows + PANEL + 40.0);
        self.out.push_str("</svg>\n");
        self.out
    }

    fn x(&self, at: Duration) -> f64 {
        let whole = self.chronicle.end.as_secs_f64().max(1.0);
        LEFT + WIDTH * at.as_secs_f64() / whole
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        let _ = write!(self.out, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>");
    }

    fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: &str, says: &str) {
        let says = escape(says);
        let _ = write!(
            self.out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"><title>{says}</title></rect>",
        );
    }

    fn legend(&mut self) {
        let all = [
            (RELEASES[0], "serves, a colour for each release"),
            (TAKEN, "taken down by its agent"),
            (OUT, "out of service otherwise"),
            (permit(Held::Granted), "permit granted"),
            (permit(Held::Begun), "permit begun"),
            (daemon(Daemon::Leads), "daemon leads"),
            (daemon(Daemon::StandsStill), "stands still"),
            (daemon(Daemon::Down), "daemon down"),
            (daemon(Daemon::Lost), "machine gone"),
        ];
        let mut x = 12.0;
        for (colour, text) in all {
            self.rect([x, 40.0, 12.0, 10.0], colour, text);
            self.text(x + 16.0, 49.0, "small", text);
            x += 34.0 + 5.6 * text.len() as f64;
        }
    }

    fn axis(&mut self, bottom: f64) {
        let end = self.chronicle.end.as_secs();
        let step = MARKS.into_iter().find(|step| end / step <= 20).unwrap_or(600);
        for at in (0..=end).step_by(usize::try_from(step).unwrap_or(600)) {
            let x = self.x(Duration::from_secs(at));
            self.line([x, TOP - 8.0, x, bottom], "axis");
            self.text(x + 2.0, TOP - 10.0, "small", &format!("{at} s"));
        }
    }

    fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str) {
        let _ = write!(
            self.out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>",
        );
    }

    /// A host: its service as a band, its permit above, its daemon below.
    fn row(&mut self, y: f64, host: usize, spans: &[Span]) {
        self.text(12.0, y + 14.0, "", &format!("host {host}"));
        for (at, span) in spans.iter().enumerate() {
            let until = spans.get(at + 1).map_or(self.chronicle.end, |next| next.since);
            let (x, width) = (self.x(span.since), self.x(until) - self.x(span.since));
            let stand = span.stand;
            let says = format!("host {host}, {:.1?} to {until:.1?}: {stand:?}", span.since);
            self.rect([x, y + 4.0, width, 11.0], self.service(stand), &says);
            if stand.permit != Held::None {
                self.rect([x, y + 1.0, width, 3.0], permit(stand.permit), &says);
            }
            if stand.daemon != Daemon::Up {
                self.rect([x, y + 15.0, width, 4.0], daemon(stand.daemon), &says);
            }
        }
    }

    fn service(&self, stand: Stand) -> &'static str {
        match stand.serves {
            Some(release) => self.colours.get(&release).copied().unwrap_or(RELEASES[0]),
            None if stand.daemon == Daemon::Lost => "#eee",
            None if stand.taken => TAKEN,
            None => OUT,
        }
    }

    fn faults(&mut self, bottom: f64) {
        for (at, text) in &self.chronicle.faults {
            let (x, text) = (self.x(*at), escape(text));
            let _ = write!(
                self.out,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" class=\"fault\">\
                 <title>{at:.1?} {text}</title></line>",
            );
        }
    }

    fn cap(&mut self, top: f64) {
        self.text(12.0, top + 14.0, "", "permits");
        self.text(12.0, top + 28.0, "small", "open / cap");
        let cap = self.chronicle.cap.clone();
        let most = cap.iter().map(|(_, open, limit)| (*open).max(*limit as usize)).max();
        let most = most.unwrap_or(1).max(1);
        let open: Vec<_> = cap.iter().map(|(at, open, _)| (*at, *open)).collect();
        let limit: Vec<_> = cap.iter().map(|(at, _, limit)| (*at, *limit as usize)).collect();
        self.text(LEFT - 16.0, top + 8.0, "small", &most.to_string());
        self.steps(top, most, &limit, OUT);
        self.steps(top, most, &open, permit(Held::Begun));
    }

    fn spread(&mut self, top: f64) {
        self.text(12.0, top + 14.0, "", "staged");
        self.text(12.0, top + 28.0, "small", "hosts");
        let hosts = self.chronicle.hosts.len().max(1);
        self.text(LEFT - 16.0, top + 8.0, "small", &hosts.to_string());
        for (release, steps) in &self.chronicle.spread {
            let colour = self.colours.get(release).copied().unwrap_or(RELEASES[0]);
            self.steps(top, hosts, steps, colour);
        }
    }

    fn steps(&mut self, top: f64, most: usize, steps: &[(Duration, usize)], colour: &str) {
        let y = |value: usize| top + (PANEL - 20.0) * (1.0 - value as f64 / most as f64);
        let mut points = String::new();
        for (at, (since, value)) in steps.iter().enumerate() {
            let until = steps.get(at + 1).map_or(self.chronicle.end, |next| next.0);
            let (from, to, y) = (self.x(*since), self.x(until), y(*value));
            let _ = write!(points, "{from:.1},{y:.1} {to:.1},{y:.1} ");
        }
        let _ =
            write!(self.out, "<polyline points=\"{points}\" class=\"line\" stroke=\"{colour}\"/>",);
    }
}

fn permit(held: Held) -> &'static str {
    match held {
        Held::None => "none",
        Held::Granted => "#8fb4ff",
        Held::Begun => "#1f4fd8",
    }
}

fn daemon(daemon: Daemon) -> &'static str {
    match daemon {
        Daemon::Up => "none",
        Daemon::Leads => "#7a5af5",
        Daemon::StandsStill => "#999",
        Daemon::Down => "#222",
        Daemon::Lost => "#000",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
