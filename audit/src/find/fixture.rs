//! For tests: records, and a log of them as files, sealed up to a point.

use std::{fs, path::Path};

use crate::{
    Record,
    find::keys::Leaf,
    frame,
    seal::tiles::{Tile, WIDTH},
    segment::Segment,
    writer::create_journal,
};

/// Record `seq`: one session in ten records, one host in seven; every fifth is a refusal.
pub(crate) fn record(seq: u64) -> Record {
    let refused = seq.is_multiple_of(5);
    let text = serde_json::json!({
        "action": "net.connect",
        "agent": {"name": "claude"},
        "effect": if refused { "deny" } else { "allow" },
        "enforced": if refused { "blocked" } else { "allowed" },
        "id": uuid::Uuid::from_u128(u128::from(seq) + 1).to_string(),
        "kind": "decision",
        "mode": "enforce",
        "mono_us": seq,
        "net": {"dport": 443, "host": host(seq), "proto": "tcp"},
        "policy": {"set": "default", "sha256": "ab".repeat(32)},
        "principal": {"id": "ann", "type": "user"},
        "reason": if refused { "default_deny" } else { "rule" },
        "resource": {"id": format!("{}:443", host(seq)), "type": "network"},
        "rules": if refused { vec![] } else { vec![format!("rule-{}", seq % 3)] },
        "seq": seq,
        "session": session(seq),
        "ts_us": time(seq),
        "v": 1,
    });
    serde_json::from_value(text).unwrap()
}

pub(crate) fn session(seq: u64) -> String {
    format!("session-{:04}", seq / 10)
}

pub(crate) fn host(seq: u64) -> String {
    format!("h{}.example.com", seq % 7)
}

pub(crate) fn time(seq: u64) -> u64 {
    1_763_683_200_000_000 + seq * 1_000_000
}

pub(crate) fn leaf(seq: u64) -> Vec<u8> {
    serde_json::to_vec(&record(seq)).unwrap()
}

/// Writes a log of `size` records, of which the segments that end at `ends` are sealed.
pub(crate) fn write_log(log: &Path, ends: &[u64], size: u64) {
    fs::create_dir_all(log.join("segments")).unwrap();
    let sealed = ends.last().copied().unwrap_or_default();
    let mut first = 0;
    for end in ends {
        let mut segment = Segment::new(first);
        for seq in first..*end {
            segment.add(&Leaf::read(&leaf(seq)).unwrap()).unwrap();
        }
        segment.commit_to(first, &[0; 32]);
        segment.save(log).unwrap();
        first = *end;
    }
    for number in 0..sealed.div_ceil(256) {
        let (from, to) = (number * 256, sealed.min((number + 1) * 256));
        let mut bytes = Vec::new();
        for seq in from..to {
            let leaf = leaf(seq);
            bytes.extend_from_slice(&u16::try_from(leaf.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&leaf);
        }
        let path = Tile::Entries.path(log, number, (to - from).min(WIDTH));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let journal = create_journal(log, sealed, [7; 16]).unwrap();
    let mut bytes = Vec::new();
    for seq in sealed..size {
        let start = frame::reserve(&mut bytes);
        bytes.extend_from_slice(&leaf(seq));
        frame::seal(&mut bytes, start, seq, frame::HEADER);
    }
    std::os::unix::fs::FileExt::write_all_at(&journal, &bytes, frame::HEADER).unwrap();
}
