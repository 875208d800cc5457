//! Samples and the markdown table they end in.

use std::time::Duration;

/// Times of one thing, in the order they were taken.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    pub fn min(&self) -> Duration {
        self.0.iter().min().copied().unwrap_or_default()
    }

    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    fn shown(&self) -> String {
        format!("{} ({} .. {})", time(self.median()), time(self.min()), time(self.max()))
    }
}

/// Three significant digits, in the unit a reader expects.
fn time(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.0} ms", us / 1e3),
    }
}

pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    pub fn new() -> Table {
        Table { rows: Vec::new() }
    }

    /// A measured thing beside its floor.
    pub fn beside(&mut self, what: &str, ours: &Samples, floor_name: &str, floor: &Samples) {
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        self.add(
            what,
            &ours.shown(),
            &format!("{}: {}", floor_name, floor.shown()),
            &format!("{:.2} / {:.2}", ratio(ours.median(), floor.median()), ratio(ours.min(), floor.min())),
        );
    }

    pub fn alone(&mut self, what: &str, ours: &Samples) {
        self.add(what, &ours.shown(), "", "");
    }

    pub fn add(&mut self, what: &str, value: &str, floor: &str, ratio: &str) {
        eprintln!("  {what}: {value}{}{floor}", if floor.is_empty() { "" } else { "; " });
        self.rows.push([what, value, floor, ratio].map(Into::into));
    }

    pub fn print(&self) {
        println!("| what | median (min .. max) | floor, same run | ratio of medians / minima |");
        println!("|---|---|---|---|");
        for [what, value, floor, ratio] in &self.rows {
            println!("| {what} | {value} | {floor} | {ratio} |");
        }
    }
}
