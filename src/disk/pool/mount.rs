//! fs and netfs pools: a device or a share that is mounted on the target directory. What is run is planned by pure
//! functions; an option can never come from a name.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory;
use super::model::{PoolDef, PoolType};
use crate::error::{Code, Error, Result};
use crate::sys::exec;

/// A network file system that does not answer keeps mount(8) for long.
const LIMIT: Duration = Duration::from_secs(120);
/// How a build treats what is on the device (`virStoragePoolBuildFlags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The device is left as it is.
    #[default]
    Keep,
    /// A file system is made, unless there is something on the device.
    IfEmpty,
    /// A file system is made.
    Always,
}

/// What is mounted, as mount(8) and the mount table name it. Errors: code 67 for names that cannot be one.
pub fn source_of(def: &PoolDef) -> Result<String> {
    let source = &def.source;
    match def.kind {
        PoolType::Fs => match source.devices.first() {
            Some(device) if Path::new(&device.path).is_absolute() => Ok(device.path.clone()),
            Some(device) => Err(Error::unsupported_config(format!(
                "source device '{}' of pool '{}' must be an absolute path",
                device.path, def.name
            ))),
            None => Err(Error::internal(format!("pool '{}' has no source device", def.name))),
        },
        _ => {
            let host = source.hosts.first().map(|host| host.name.as_str()).unwrap_or_default();
            let dir = source.dir.as_deref().unwrap_or_default();
            let plain = !host.is_empty() && !host.starts_with('-') && !host.contains(['/', ' ', '\n', ',']);
            if !plain {
                let what = format!("'{host}' cannot be the source host of pool '{}'", def.name);
                return Err(Error::unsupported_config(what));
            }
            if source.hosts.len() > 1 {
                return Err(Error::unsupported_config(format!(
                    "pool '{}' must have exactly one source host",
                    def.name
                )));
            }
            Ok(match source.format {
                Some("cifs") => format!("//{host}/{dir}"),
                _ if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{dir}"),
                _ => format!("{host}:{dir}"),
            })
        }
    }
}

/// The arguments of mount(8), without its name.
pub fn mount_arguments(def: &PoolDef) -> Result<Vec<String>> {
    let format = def.source.format.unwrap_or("auto");
    let mut options = vec!["nodev".to_string(), "nosuid".into(), "noexec".into()];
    match format {
        "cifs" => options.push("guest".into()),
        "glusterfs" => options.push("direct-io-mode=1".into()),
        _ => {}
    }
    if let Some(version) = &def.source.protocol_version {
        let plain = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !plain {
            let what = format!("'{version}' is no NFS version; <protocol ver='4.2'/> would be one");
            return Err(Error::unsupported_config(what));
        }
        options.push(format!("nfsvers={version}"));
    }
    for option in &def.mount_options {
        if option.is_empty() || option.contains(['\n', '\0']) {
            return Err(Error::unsupported_config(format!("'{option}' is no mount option")));
        }
        options.push(option.clone());
    }
    let mut arguments = vec!["-o".to_string(), options.join(",")];
    // Of a share's type mount(8) learns from its name.
    if !(def.kind == PoolType::Netfs && format == "auto") {
        arguments.extend(["-t".to_string(), format.to_string()]);
    }
    arguments.extend([source_of(def)?, target_of(def)?.display().to_string()]);
    Ok(arguments)
}

fn target_of(def: &PoolDef) -> Result<PathBuf> {
    let path = PathBuf::from(def.target.path.as_deref().unwrap_or_default());
    directory::absolute(&path)?;
    Ok(path)
}

/// Whether the pool's source is mounted on its target.
pub fn is_mounted(def: &PoolDef) -> Result<bool> {
    let (source, target) = (source_of(def)?, target_of(def)?);
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::system("cannot read '/proc/self/mountinfo'", error))?;
    let real = std::fs::canonicalize(&target).unwrap_or(target);
    let mounted = table.lines().rev().filter_map(mount_line).find(|(_, at)| Path::new(at) == real);
    let same = |name: &str| name == source || same_device(name, &source) || is_loop_of(name, &source);
    // Only the mount on top can be seen and taken away.
    Ok(mounted.is_some_and(|(from, _)| same(&from)))
}

/// Two names of one device.
fn same_device(a: &str, b: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device =
        |path: &str| std::fs::metadata(path).ok().filter(|m| m.file_type().is_block_device()).map(|m| m.rdev());
    Path::new(a).is_absolute() && device(a).is_some_and(|rdev| Some(rdev) == device(b))
}

/// A file is mounted through a device of its own.
fn is_loop_of(name: &str, file: &str) -> bool {
    let Some(device) = name.strip_prefix("/dev/").filter(|device| device.starts_with("loop")) else { return false };
    let backing = std::fs::read_to_string(format!("/sys/block/{device}/loop/backing_file")).unwrap_or_default();
    std::fs::canonicalize(file).is_ok_and(|real| real == Path::new(backing.trim_end_matches('\n')))
}

/// Source and mount point of a line of mountinfo.
fn mount_line(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?;
    let source = right.split(' ').nth(1)?;
    Some((unescape(source), unescape(point)))
}

/// The table writes blanks as `\040`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Mounts the pool's source on its target; a source that is mounted there already is left. Errors: code 1 with what
/// mount(8) said, 67 for a definition that cannot be mounted.
pub async fn mount(def: &PoolDef) -> Result<()> {
    if is_mounted(def)? {
        return Ok(());
    }
    run("mount", &mount_arguments(def)?).await
}

/// Takes the mount away, if it is the pool's. Error: code 1 with what umount(8) said, code 38.
pub async fn unmount(def: &PoolDef) -> Result<()> {
    if !is_mounted(def)? {
        return Ok(());
    }
    run("umount", &[target_of(def)?.display().to_string()]).await
}

/// Makes the mount point and, if asked for, a file system on the device. Errors: code 55 when the device is missing or
/// holds something, 1 with what mkfs(8) said.
pub async fn build(def: &PoolDef, format: Format) -> Result<()> {
    let target = target_of(def)?;
    directory::build(&target, &def.target, def.cow)?;
    if def.kind != PoolType::Fs || format == Format::Keep {
        return Ok(());
    }
    let device = source_of(def)?;
    if !Path::new(&device).exists() {
        let what = format!("Source device does not exist when formatting pool '{}': '{device}'", def.name);
        return Err(Error::invalid_state(what));
    }
    let kind = def.source.format.unwrap_or("auto");
    if kind == "auto" {
        let what = format!("pool '{}' says no file system to make: add <format type='ext4'/> to its source", def.name);
        return Err(Error::unsupported_config(what));
    }
    if format == Format::IfEmpty
        && let Some(content) = content_of(&device).await?
    {
        let what = format!(
            "device '{device}' of pool '{}' holds '{content}' already: build with the overwrite flag to lose it",
            def.name
        );
        return Err(Error::invalid_state(what));
    }
    let mut arguments = vec!["-t".to_string(), kind.to_string()];
    // Else it asks on a terminal there is none of.
    if kind == "xfs" {
        arguments.push("-f".to_string());
    }
    arguments.push(device);
    run("mkfs", &arguments).await
}

/// What blkid(8) finds on a device; `None` when it is empty.
async fn content_of(device: &str) -> Result<Option<String>> {
    let program = program("blkid")?;
    let arguments = ["-p", "-o", "export", device];
    let options = exec::Options { any_status: true, ..exec::Options::default() };
    let output = exec::run(&program, &arguments, options).await?;
    let text = output.text();
    let word = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_string);
    match output.status {
        crate::sys::process::Exit::Code(0) => {
            Ok(word("TYPE=").or_else(|| word("PTTYPE=")).or_else(|| Some("something unknown".to_string())))
        }
        // Nothing was found.
        crate::sys::process::Exit::Code(2) => Ok(None),
        _ => Err(Error::internal(format!(
            "blkid cannot tell what is on '{device}': {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// Where a system's program lies. Error: code 1, libvirt's text, with the package to install.
pub fn program(name: &str) -> Result<PathBuf> {
    let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        let package = match name {
            "mount" | "umount" => "mount",
            "mkfs" | "blkid" => "util-linux",
            "showmount" => "nfs-common",
            _ => "lvm2",
        };
        let what = format!("Cannot find '{name}' in path: No such file or directory; install the package '{package}'");
        Error::new(Code::InternalError, what)
    })
}

pub(super) async fn run(name: &str, arguments: &[String]) -> Result<()> {
    let options = exec::Options { timeout: LIMIT, ..exec::Options::default() };
    exec::run(&program(name)?, arguments, options).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::pool::{corpus, parse};
    use rstest::rstest;

    #[test]
    fn conformance_vectors_of_commands() {
        let Some(expected) = corpus("storagepoolxml2argvdata") else { return };
        let mut seen = 0;
        for entry in std::fs::read_dir(&expected).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let stem = name.trim_end_matches(".argv").trim_end_matches("-linux").to_string();
            let input = expected.with_file_name("storagepoolxml2xmlin").join(format!("{stem}.xml"));
            let def = parse(&std::fs::read_to_string(input).unwrap()).unwrap().def;
            let (program, arguments) = match def.kind {
                PoolType::Logical => ("vgchange", crate::disk::pool::logical::activate_arguments(&def, true)),
                _ => ("mount", mount_arguments(&def).unwrap()),
            };
            let lines = std::fs::read_to_string(entry.path()).unwrap();
            let words: Vec<&str> = lines.split([' ', '\\', '\n']).filter(|word| !word.is_empty()).collect();
            let ours: Vec<&str> = std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect();
            assert_eq!(ours, words, "{name}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    fn netfs(source: &str) -> PoolDef {
        let xml = format!(
            "<pool type='netfs' xmlns:fs='{}'><name>n</name><source>{source}</source><target><path>/mnt</path></target>\
             <fs:mount_opts><fs:option name='sync'/></fs:mount_opts></pool>",
            crate::disk::pool::FS_NAMESPACE
        );
        parse(&xml).unwrap().def
    }

    #[test]
    fn options_come_in_order() {
        let def = netfs("<host name='fe80::1'/><dir path='/a b'/><format type='nfs'/><protocol ver='4.2'/>");
        let options = "nodev,nosuid,noexec,nfsvers=4.2,sync";
        assert_eq!(mount_arguments(&def).unwrap(), ["-o", options, "-t", "nfs", "[fe80::1]:/a b", "/mnt"]);
    }

    #[rstest]
    #[case("<host name='-oremount'/><dir path='/a'/>", "cannot be the source host")]
    #[case("<host name='h'/><host name='i'/><dir path='/a'/>", "exactly one source host")]
    #[case("<host name='h'/><dir path='/a'/><protocol ver='4,exec'/>", "is no NFS version")]
    fn names_are_no_options(#[case] source: &str, #[case] says: &str) {
        let error = mount_arguments(&netfs(source)).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }

    #[test]
    fn the_mount_table_is_read() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/ro\\134ot rw,errors=continue";
        assert_eq!(mount_line(line), Some(("/dev/ro\\ot".to_string(), "/mnt 2".to_string())));
        assert_eq!(mount_line("x"), None);
    }

    #[tokio::test]
    async fn a_file_system_is_made_only_where_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let def = |format: &str| {
            let xml = format!(
                "<pool type='fs'><name>f</name><source><device path='{}'/>{format}</source><target><path>{}</path>\
                 </target></pool>",
                image.display(),
                dir.path().join("mnt").display()
            );
            parse(&xml).unwrap().def
        };
        let ext4 = def("<format type='ext4'/>");
        let error = build(&def(""), Format::Always).await.unwrap_err();
        assert!(error.message().contains("says no file system to make"), "{error}");
        if program("mkfs.ext4").is_err() || program("blkid").is_err() {
            println!("SKIP a_file_system_is_made_only_where_nothing_is: mkfs.ext4 or blkid is not installed");
            return;
        }
        build(&ext4, Format::IfEmpty).await.unwrap();
        let error = build(&ext4, Format::IfEmpty).await.unwrap_err();
        assert!(error.message().contains("holds 'ext4' already"), "{error}");
        build(&ext4, Format::Always).await.unwrap();
        std::fs::remove_file(&image).unwrap();
        let error = build(&ext4, Format::Always).await.unwrap_err();
        assert!(error.message().contains("Source device does not exist when formatting pool 'f'"), "{error}");
    }
}
