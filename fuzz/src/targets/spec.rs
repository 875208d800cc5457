//! What the daemon and `domus-run` tell each other, as JSON: specs, programs to enter with, requests, events, records.
//! What reads is written so that it reads back the same.

use domus::lxc::protocol::{Event, ExitRecord, Request};
use domus::lxc::spec::{Enter, Spec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Outcome, hash, shape};

/// See the module's text.
pub fn run(data: &[u8]) -> Outcome {
    let outcomes =
        [one::<Spec>(data), one::<Enter>(data), one::<Request>(data), one::<Event>(data), one::<ExitRecord>(data)];
    hash(outcomes.map(u64::to_le_bytes))
}

fn one<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) -> Outcome {
    match serde_json::from_slice::<T>(data) {
        Err(error) => shape(&error.to_string()),
        Ok(value) => {
            let json = serde_json::to_vec(&value).expect("what was read is written");
            let again: T = serde_json::from_slice(&json).expect("what was written is read");
            assert_eq!(again, value);
            1
        }
    }
}

/// Specs of the fixtures, and one of each other message.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::files(&[super::project().join("tests/fixtures")], "json");
    let messages = [
        r#"{"seq":1,"call":"status"}"#,
        r#"{"seq":2,"call":"console","index":0,"force":true}"#,
        r#"{"seq":3,"call":"signal","signal":15}"#,
        r#"{"seq":4,"call":"shutdown","reboot":false,"initctl":true,"signal":true}"#,
        r#"{"event":"hello","version":1,"pid":2}"#,
        r#"{"event":"held","init":1,"init_start":2,"ttys":["/dev/pts/1"],"held":true}"#,
        r#"{"event":"reply","seq":1,"error":null,"status":{"init":1,"init_start":2,"ttys":[],"held":false}}"#,
        r#"{"event":"ended","version":1,"cause":"exited","status":0,"signal":null,"killed":false,"time":1,"message":null}"#,
        r#"{"version":1,"cause":"power-off","status":null,"signal":1,"killed":false,"time":1,"message":"x"}"#,
        r#"{"version":1,"init":1,"init_start":2,"user_namespace":true,"program":{"argv":["/bin/sh"],"env":[["A","b"]],"dir":null,"user":"0","group":null},"drop_caps":["CAP_SYS_TIME"],"seccomp":true}"#,
    ];
    seeds.extend(messages.iter().map(|text| text.as_bytes().to_vec()));
    seeds
}
