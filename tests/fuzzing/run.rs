//! The run of the fuzz targets on the stable toolchain, for the tests of each crate that has some:
//! every target on its corpus, and on a bounded number of mutations of it, the same ones each time.
//! `CORDON_FUZZ_SECONDS=600` goes on with others for that long, `CORDON_FUZZ_TARGET=tar` runs that
//! target alone.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// What a target takes, by the name of its corpus.
type Target = (&'static str, fn(&[u8]));

/// How much is tried of each target in every run: so many mutations, or as many as end in time.
pub struct Effort {
    pub mutations: usize,
    pub longest: Duration,
}

/// Fails on the first input that a target fails on.
pub fn run(targets: &[Target], effort: &Effort) {
    let seconds = std::env::var("CORDON_FUZZ_SECONDS").map_or(0, |n| n.parse().unwrap());
    let share = Duration::from_secs(seconds) / u32::try_from(targets.len()).unwrap();
    for &(name, target) in targets {
        if std::env::var("CORDON_FUZZ_TARGET").is_ok_and(|only| only != name) {
            continue;
        }
        let corpus = corpus(name);
        for input in &corpus {
            tried(name, target, input);
        }
        let started = Instant::now();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut done = 0;
        while (done < effort.mutations && started.elapsed() < effort.longest)
            || started.elapsed() < share
        {
            tried(name, target, &mutated(&corpus, &mut random));
            done += 1;
        }
        assert!(done >= 10, "{name}: too slow to be of use");
        println!("{name}: {} inputs, {done} mutations", corpus.len());
    }
}

/// Runs one input; one that fails is shown, so that it can be kept in the corpus.
fn tried(name: &str, target: fn(&[u8]), input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name}: b\"{}\"", input.escape_ascii());
}

/// The inputs that are kept, in the `fuzz` of the crate whose test this is.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 2, "{name}: a corpus of good and bad inputs");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One input with some bytes changed, taken out, put in, repeated, or taken from another input.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(16).min(bytes.len() - at);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = INTERESTING[random.below(INTERESTING.len())],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].repeat(1 + random.below(200));
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = from + random.below(64).min(other.len() - from);
                bytes.splice(at..at + length, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

const INTERESTING: &[u8] = b"\0\xff\x1b\n\"'\\/.{}[]()=,:;@*#-+0129azAZ\x80\xc3";

/// SplitMix64: enough to choose with, and the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}
