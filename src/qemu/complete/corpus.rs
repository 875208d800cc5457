//! Runs foreign definitions through parse, complete and plan, for comparison with what libvirt makes of them.
//!
//! `DOMUS_CORPUS=<dir with *.xml>` and `DOMUS_CORPUS_OUT=<dir>`: each `NAME.xml` becomes `NAME.out.xml` and
//! `NAME.out.args`, or `NAME.err`. `DOMUS_CORPUS_FIRMWARE=<dir:dir>`: firmware descriptors. Without the variables there is nothing to do.

#![allow(clippy::disallowed_methods)] // writes what a person compares, no state

use std::path::{Path, PathBuf};

use crate::domain_xml::model::GenId;
use crate::domain_xml::{FormatOptions, format, parse_inactive};
use crate::error::Result;
use crate::qemu::capabilities::QemuCaps;
use crate::qemu::command::{self, Context};
use crate::qemu::complete;
use crate::qemu::firmware::{self, FirmwareChoice};
use crate::qemu::{QemuConfig, QemuDriver};

fn one(xml: &str, caps: &QemuCaps, firmwares: &FirmwareChoice, out: &Path) -> Result<()> {
    let mut def = parse_inactive(xml)?.def;
    if def.genid == Some(GenId::Generate) {
        def.genid = Some(GenId::Value(crate::types::Uuid::new_v4()));
    }
    complete::complete(&mut def, "/usr/bin/qemu-system-x86_64", Some(caps), firmwares)?;
    crate::qemu::validate::validate(&def, Some(caps)).map_err(|error| crate::domain_xml::place(error, xml))?;
    let options = FormatOptions { secure: true, inactive: true, migratable: false };
    std::fs::write(PathBuf::from(format!("{}.out.xml", out.display())), format(&def, options)).unwrap();
    crate::qemu::launch::expand_cpu(&mut def, caps)?;
    complete::assign_aliases(&mut def);
    complete::assign_nodes(&mut def);
    let context = Context { caps, sandbox: true, kvm_fd: false, vhost: true, paper: false, now: 0 };
    let plan = command::plan(&def, &context)?;
    let quoted = |arg: &String| format!("'{}'", arg.replace('\'', "'\\''"));
    let text: Vec<String> = std::iter::once(&plan.program).chain(&plan.args).map(quoted).collect();
    std::fs::write(PathBuf::from(format!("{}.out.args", out.display())), text.join(" ")).unwrap();
    Ok(())
}

#[tokio::test]
async fn corpus() {
    let (Ok(dir), Ok(out)) = (std::env::var("DOMUS_CORPUS"), std::env::var("DOMUS_CORPUS_OUT")) else { return };
    let cache_dir = Path::new(&out).join("caps");
    let config = QemuConfig { user: Some("64999".into()), cache_dir, ..QemuConfig::default() };
    let driver = QemuDriver::new(config.clone());
    driver.version().await.unwrap();
    let store = crate::qemu::capabilities::CapsStore::new(config.cache_dir.clone());
    let caps = store.get("/usr/bin/qemu-system-x86_64", &config.identity().unwrap()).await.unwrap().unwrap();
    let dirs = std::env::var("DOMUS_CORPUS_FIRMWARE").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&dirs).collect();
    let descriptors = firmware::load(&dirs);
    let firmwares = FirmwareChoice { descriptors, nvram_dir: "/var/lib/libvirt/qemu/nvram".into(), new: true };
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|ext| ext != "xml") {
            continue;
        }
        let xml = std::fs::read_to_string(&path).unwrap();
        let target = Path::new(&out).join(&name);
        if let Err(error) = one(&xml, &caps, &firmwares, &target) {
            std::fs::write(format!("{}.err", target.display()), error.message()).unwrap();
        }
    }
}
