#![cfg_attr(fuzzing, no_main)]
domus_fuzz::target!(rpc);
