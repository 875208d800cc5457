//! Black-box suites: they run the binaries as a user would and know nothing of the library behind them.
//!
//! Every test has a [`harness::Lab`]: a root directory, a daemon of its own and, for guests, a network and a mount
//! namespace of its own. It ends with `lab.finish()`, which looks for what was left behind. Nothing here needs the
//! network or a fixed port. What this machine cannot do is skipped with a line `SKIP name: reason` on stderr.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "sys::exec and store::atomic belong to the daemon, not to its tests")]
#![allow(clippy::needless_pass_by_value)]

mod harness;

mod access;
mod bad_input;
mod command_line;
mod consoles;
mod dbus_api;
mod ends;
mod exec;
mod foreign_firewalls;
mod guest_volumes;
mod host_events;
mod hostile_xml;
mod interfaces;
mod introspection;
mod like_libvirt;
mod logical;
mod macvlans;
mod managed;
mod mock_define;
mod mock_life;
mod native;
mod network_faults;
mod network_ports;
mod network_traffic;
mod networks;
mod node_devices;
mod nwfilters;
mod plug;
mod pools;
mod qemu_life;
mod qemu_xml;
mod recovery;
mod rpc_devices;
mod rpc_guest;
mod rpc_hostile;
mod rpc_knobs;
mod rpc_python;
mod rpc_sockets;
mod rpc_virsh;
mod rpc_virtinst;
mod rpc_wire;
mod secrets;
mod snapshots;
mod stopped_guest;
mod tune;
mod volume_faults;
mod volumes;
