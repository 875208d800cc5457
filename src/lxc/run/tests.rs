//! Hostile input: what this program is told, and what it finds in a root.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::control::Connection;
use super::inroot::{self, Links};
use super::{ids, read_json, sync};
use crate::lxc::protocol::Request;
use crate::lxc::spec::{Enter, IdRange, Spec};
use crate::sys::packet;

/// A spec as the daemon writes it.
const SPEC: &str = include_str!("../../../tests/fixtures/lxc/lxc-spawn-spec.json");

fn memfd(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("spec", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = fs::File::from(fd);
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file.into()
}

/// Words of the formats, numbers at their edges, and what is neither.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#"{"seq":1,"call":"status"}"#.to_string()),
        Just(r#"{"seq":18446744073709551616,"call":"kill"}"#.to_string()),
        Just(r#"{"seq":1,"call":"console","index":18446744073709551615,"force":true}"#.to_string()),
        Just(r#"{"seq":1,"call":"signal","signal":-2147483648}"#.to_string()),
        Just(r#"{"step":"ready"}"#.to_string()),
        Just("[".repeat(300)),
        Just("{\"a\":".repeat(300)),
        Just("\"\\ud800\"".to_string()),
        "[\\x00-\\x7f]{0,40}",
        "[\\[\\]{}:,\"0-9eE.+-]{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A spec with a part cut out, replaced or doubled is read or refused by name, never more.
    #[test]
    fn a_damaged_spec_is_read_or_refused(at in 0..SPEC.len(), len in 0..200usize, put in fragment()) {
        let (at, end) = (at, (at + len).min(SPEC.len()));
        if SPEC.is_char_boundary(at) && SPEC.is_char_boundary(end) {
            let text = format!("{}{put}{}", &SPEC[..at], &SPEC[end..]);
            if let Err(failure) = read_json::<Spec>(memfd(text.as_bytes())) {
                prop_assert_eq!(failure.stage, "spec");
            }
            let _ = read_json::<Enter>(memfd(text.as_bytes()));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(read_json::<Spec>(memfd(&bytes)).is_err());
        prop_assert!(read_json::<Enter>(memfd(&bytes)).is_err());
    }

    /// What comes on a connection is a request, gets an answer, or ends the connection; the next one is not lost.
    #[test]
    fn a_connection_stands_any_packet(text in fragment(), bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        for data in [text.as_bytes(), &bytes] {
            if data.is_empty() {
                continue;
            }
            let (ours, theirs) = packet::pair().unwrap();
            let mut connection = Connection::new(theirs, 1);
            packet::send(ours.as_fd(), data, &[]).unwrap();
            let first = connection.receive();
            prop_assert_eq!(first.is_some(), serde_json::from_slice::<Request>(data).is_ok());
            if !connection.is_broken() {
                packet::send(ours.as_fd(), br#"{"seq":7,"call":"status"}"#, &[]).unwrap();
                prop_assert_eq!(connection.receive().map(|request| request.seq), Some(7));
            }
        }
    }

    /// The child's side of the building is not trusted to speak well either.
    #[test]
    fn the_other_side_of_a_start_may_say_anything(text in fragment()) {
        let (parent, child) = sync::channel().unwrap();
        child.say(text.as_bytes());
        drop(child);
        let heard = parent.expect(&sync::Step::Ready);
        prop_assert_eq!(heard.is_ok(), serde_json::from_str::<sync::Step>(&text).is_ok_and(|step| step == sync::Step::Ready));
    }

    #[test]
    fn id_maps_at_the_edges_do_not_wrap(inside: u32, outside: u32, count: u32, id: u32) {
        let map = [IdRange { inside, outside, count }];
        if let Some(result) = ids::outside(&map, id) {
            prop_assert!(result >= outside && ids::owns(&map, result));
        }
    }
}

/// A name, a link's target or a path: few words, so that they meet.
fn path(absolute: bool) -> impl Strategy<Value = String> {
    let part =
        prop_oneof![4 => "[abc]", 2 => Just("..".to_string()), 1 => Just(".".to_string()), 1 => Just(String::new())];
    prop::collection::vec(part, 1..6).prop_map(move |parts| {
        let path = parts.join("/");
        if absolute { format!("/{path}") } else { path }
    })
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        path(false),
        path(true),
        Just("OUTSIDE".to_string()),
        Just("../../../../../../../../../..OUTSIDE".to_string()),
        Just("/proc/self/cwd".to_string()),
        Just("/proc/self/root".to_string()),
    ]
}

#[derive(Clone, Debug)]
enum Node {
    Dir(String),
    Link(String, String),
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![path(false).prop_map(Node::Dir), (path(false), target()).prop_map(|(at, to)| Node::Link(at, to))]
}

/// Where an fd is.
fn place(fd: impl AsFd) -> std::path::PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever links a root has, everything that is opened or made is in it.
    #[test]
    fn nothing_leads_out_of_a_root(
        nodes in prop::collection::vec(node(), 0..12),
        paths in prop::collection::vec(path(true), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        let fd = rustix::fs::open(&root, rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty());
        let fd = fd.unwrap();
        for node in nodes {
            // Made by what is tested: the tree's own links may lead anywhere.
            match node {
                Node::Dir(path) => drop(inroot::make_dir(&fd, &path, Links::InRoot)),
                Node::Link(at, to) => {
                    let (parent, name) = at.rsplit_once('/').unwrap_or((".", &at));
                    let to = to.replace("OUTSIDE", &outside.to_string_lossy());
                    if let Ok(parent) = inroot::make_dir(&fd, if parent.is_empty() { "." } else { parent }, Links::InRoot) {
                        let _ = symlink(to, place(&parent).join(name));
                    }
                }
            }
        }
        let root = fs::canonicalize(&root).unwrap();
        let inside = |fd: &OwnedFd| place(fd).starts_with(&root);
        for path in paths {
            let made = [
                inroot::make_dir(&fd, &path, Links::InRoot),
                inroot::make_dir(&fd, &path, Links::Refuse),
                inroot::make_file(&fd, &format!("{path}/f")),
                inroot::open_path(&fd, &path, Links::InRoot),
            ];
            prop_assert!(made.iter().flatten().all(inside), "{path}: {:?}", made.iter().flatten().map(place).collect::<Vec<_>>());
            let read = [inroot::open_read(&fd, &path), inroot::open_write(&fd, &path)];
            prop_assert!(read.iter().flatten().all(inside), "{path}");
        }
        prop_assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        prop_assert!(!Path::new("/a").exists() && !Path::new("/b").exists() && !Path::new("/c").exists());
    }
}
