//! Fuzzing on stable: a seeded mutation loop. No coverage is measured; an input that ends in a way not seen before
//! (another error, another set of elements) joins the corpus, which leads nearly as far for parsers with good messages.
//!
//! ```text
//! --seconds N    how long (60)
//! --seed N       the first state of the generator (the time); with the same seed the same inputs come
//! --corpus DIR   further seeds; new inputs are kept there
//! FILE...        run these inputs once and end: what a finding is looked at with
//! ```
//!
//! The input being tried is in `artifacts/TARGET-last` when a target panics, kills the process or hangs for 20 seconds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::Outcome;

/// Largest input tried, bytes.
const MAX_LEN: usize = 64 * 1024;
/// Most inputs kept.
const MAX_CORPUS: usize = 20_000;
const HANGS_AFTER: Duration = Duration::from_secs(20);

/// The input being tried, for the panic hook and the watchdog.
static CURRENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

/// The program of the target `name`.
pub fn main(name: &'static str, run: fn(&[u8]) -> Outcome, seeds: fn() -> Vec<Vec<u8>>) -> ExitCode {
    let mut seconds = 60;
    let mut state = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let mut directory = None;
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seconds" => seconds = value().parse().expect("--seconds takes a number"),
            "--seed" => state = value().parse().expect("--seed takes a number"),
            "--corpus" => directory = Some(PathBuf::from(value())),
            _ => files.push(argument),
        }
    }
    if !files.is_empty() {
        for file in files {
            let data = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            println!("{file}: {:016x}", run(&data));
        }
        return ExitCode::SUCCESS;
    }
    save_on_panic(name);
    watch(name);
    println!("{name}: seed {state}");
    let mut rng = Rng(state);
    let mut corpus = seeds();
    if let Some(directory) = &directory {
        std::fs::create_dir_all(directory).expect("the corpus directory is made");
        corpus
            .extend(std::fs::read_dir(directory).into_iter().flatten().flatten().flat_map(|e| std::fs::read(e.path())));
    }
    let words = words(&corpus);
    let mut seen: HashSet<Outcome> = HashSet::new();
    for input in &corpus {
        seen.insert(execute(input, run));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let start = Instant::now();
    let mut said = start;
    while Instant::now() < end {
        let mut input = corpus[rng.below(corpus.len())].clone();
        for _ in 0..1 + rng.below(4) {
            mutate(&mut rng, &mut input, &corpus, &words);
        }
        input.truncate(MAX_LEN);
        if seen.insert(execute(&input, run)) && corpus.len() < MAX_CORPUS {
            keep(directory.as_deref(), &input);
            corpus.push(input);
        }
        if said.elapsed() >= Duration::from_secs(60) {
            said = Instant::now();
            report(name, start, corpus.len(), seen.len());
        }
    }
    report(name, start, corpus.len(), seen.len());
    ExitCode::SUCCESS
}

fn report(name: &str, start: Instant, corpus: usize, outcomes: usize) {
    let (count, seconds) = (EXECUTIONS.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    println!(
        "{name}: {count} executions in {seconds:.0} s ({:.0}/s), {outcomes} outcomes, corpus {corpus}",
        count as f64 / seconds.max(0.001)
    );
}

fn execute(input: &[u8], run: fn(&[u8]) -> Outcome) -> Outcome {
    {
        let mut current = CURRENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.clear();
        current.extend_from_slice(input);
    }
    EXECUTIONS.fetch_add(1, Ordering::Relaxed);
    run(input)
}

fn keep(directory: Option<&Path>, input: &[u8]) {
    if let Some(directory) = directory {
        let _ = std::fs::write(directory.join(format!("{:016x}", crate::hash([input]))), input);
    }
}

fn save(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let current = CURRENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let path = directory.join(format!("{name}-{:016x}", crate::hash([&*current])));
    let _ = std::fs::create_dir_all(&directory);
    let _ = std::fs::write(&path, &*current);
    path.display().to_string()
}

/// A panic anywhere, also in a thread or behind a catch, is a finding.
fn save_on_panic(name: &'static str) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        eprintln!("{name}: the input is in {}", save(name));
        std::process::abort();
    }));
}

fn watch(name: &'static str) {
    std::thread::spawn(move || {
        let mut last = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let count = EXECUTIONS.load(Ordering::Relaxed);
            if count != last.0 {
                last = (count, Instant::now());
            } else if count > 0 && last.1.elapsed() > HANGS_AFTER {
                eprintln!("{name}: one input takes more than {HANGS_AFTER:?}; it is in {}", save(name));
                std::process::abort();
            }
        }
    });
}

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "15",
    "16",
    "31",
    "32",
    "63",
    "64",
    "127",
    "128",
    "255",
    "256",
    "4095",
    "4096",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0x10",
    "010",
    "1e9",
    "",
    " ",
    "00000000000000000000000001",
    "17179869183",
    "18014398509481984",
];

const BITS: &[&str] = &[
    "&amp;",
    "&#0;",
    "&#x41;",
    "&lt;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "'",
    "\"",
    ",",
    ",,",
    "=",
    "\u{0}",
    "\u{7f}",
    "\u{e9}",
    "\u{1f4a9}",
    "../",
    "/",
    "%s",
    "yes",
    "no",
    "on",
    "off",
    "default",
    "none",
    "auto",
    "\n",
    "\t",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
];

/// What stands between quotes or tags in the seeds: values and names to put elsewhere.
fn words(corpus: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut found: HashSet<Vec<u8>> = HashSet::new();
    for input in corpus {
        for part in input.split(|byte| b"'\"<>/= \n".contains(byte)) {
            if !part.is_empty() && part.len() < 64 {
                found.insert(part.to_vec());
            }
        }
    }
    let mut words: Vec<_> = found.into_iter().collect();
    words.sort();
    words
}

/// One change.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[Vec<u8>]) {
    let length = input.len();
    match rng.below(14) {
        0 if length > 0 => {
            let at = rng.below(length);
            input[at] ^= 1 << rng.below(8);
        }
        1 => {
            let at = rng.below(length + 1);
            let bytes: Vec<u8> = (0..1 + rng.below(8)).map(|_| rng.next() as u8).collect();
            input.splice(at..at, bytes);
        }
        2 if length > 0 => {
            let at = rng.below(length);
            let end = (at + 1 + rng.below(64)).min(length);
            input.drain(at..end);
        }
        3 if length > 0 => {
            let at = rng.below(length);
            let end = (at + 1 + rng.below(256)).min(length);
            let part = input[at..end].to_vec();
            let to = rng.below(length + 1);
            input.splice(to..to, part);
        }
        4 | 5 => replace_quoted(rng, input, words),
        6 | 7 => replace_number(rng, input),
        8 if !words.is_empty() => {
            let at = rng.below(length + 1);
            let word = words[rng.below(words.len())].clone();
            input.splice(at..at, word);
        }
        9 => {
            let at = rng.below(length + 1);
            let word = BITS[rng.below(BITS.len())].bytes();
            input.splice(at..at, word);
        }
        10 | 11 => {
            // An element (or a line) of another input comes in at a line's start.
            let other = &corpus[rng.below(corpus.len())];
            let part = element(rng, other).to_vec();
            let at = boundary(rng, input);
            input.splice(at..at, part);
        }
        12 => {
            // An element goes, or comes twice.
            let part = element(rng, input).to_vec();
            if let Some(at) = find(input, &part) {
                if rng.below(2) == 0 {
                    input.drain(at..at + part.len());
                } else {
                    input.splice(at..at, part);
                }
            }
        }
        _ => {
            let other = &corpus[rng.below(corpus.len())];
            let (cut, from) = (boundary(rng, input), boundary(rng, other));
            input.truncate(cut);
            input.extend_from_slice(&other[from..]);
        }
    }
}

fn find(input: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() { None } else { input.windows(part.len()).position(|window| window == part) }
}

/// A place where a tag, a JSON value or a line begins.
fn boundary(rng: &mut Rng, input: &[u8]) -> usize {
    let start = rng.below(input.len() + 1);
    let found = input[start..].iter().position(|byte| b"<\n,{[".contains(byte));
    found.map_or(start, |offset| start + offset)
}

/// One element with all in it; without one, a line.
fn element<'i>(rng: &mut Rng, input: &'i [u8]) -> &'i [u8] {
    let start = rng.below(input.len() + 1);
    let Some(offset) = input[start..].iter().position(|byte| *byte == b'<') else {
        let end = input[start..].iter().position(|byte| *byte == b'\n').map_or(input.len(), |at| start + at);
        return &input[start..end];
    };
    let begin = start + offset;
    let mut depth = 0i32;
    let mut at = begin;
    while let Some(open) = input[at..].iter().position(|byte| *byte == b'<').map(|offset| at + offset) {
        let Some(close) = input[open..].iter().position(|byte| *byte == b'>').map(|offset| open + offset) else {
            break;
        };
        if input.get(open + 1) == Some(&b'/') {
            depth -= 1;
        } else if input[close - 1] != b'/' && input.get(open + 1) != Some(&b'!') && input.get(open + 1) != Some(&b'?') {
            depth += 1;
        }
        at = close + 1;
        if depth <= 0 {
            return &input[begin..at];
        }
    }
    &input[begin..input.len().min(begin + 200)]
}

fn replace_quoted(rng: &mut Rng, input: &mut Vec<u8>, words: &[Vec<u8>]) {
    let start = rng.below(input.len() + 1);
    let Some(open) = input[start..].iter().position(|byte| b"'\">".contains(byte)).map(|offset| start + offset) else {
        return;
    };
    let stop: &[u8] = if input[open] == b'>' { b"<" } else { &[input[open]] };
    let stop = stop.to_vec();
    let Some(close) = input[open + 1..].iter().position(|byte| stop.contains(byte)).map(|at| open + 1 + at) else {
        return;
    };
    let word = match rng.below(3) {
        0 => NUMBERS[rng.below(NUMBERS.len())].as_bytes().to_vec(),
        _ if words.is_empty() => Vec::new(),
        _ => words[rng.below(words.len())].clone(),
    };
    input.splice(open + 1..close, word);
}

fn replace_number(rng: &mut Rng, input: &mut Vec<u8>) {
    let start = rng.below(input.len() + 1);
    let Some(from) = input[start..].iter().position(u8::is_ascii_digit).map(|offset| start + offset) else { return };
    let to = input[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |offset| from + offset);
    let number = NUMBERS[rng.below(NUMBERS.len())].bytes();
    input.splice(from..to, number);
}
