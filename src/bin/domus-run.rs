//! `domus-run`: supervisor, init and exec entry of one container; see `domus::lxc::run`.

#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

domus::bare_main!(domus::lxc::run::main);
