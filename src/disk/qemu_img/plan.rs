//! Arguments of `qemu-img`. Pure: what to make and where the files are -> argument lists. Means what libvirt's
//! command lines mean.

use std::fmt::Write;

use crate::error::{Code, Error, Result};

/// An image to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewImage {
    /// QEMU's name of the format: `raw`, `qcow2` ...
    pub format: String,
    /// Bytes the guest sees; handed over in KiB, rounded up.
    pub capacity: u64,
    /// Bytes to be used on the host from the start.
    pub allocation: u64,
    pub backing: Option<Backing>,
    /// Metadata are laid out at once; with all of the capacity asked for, the data as well.
    pub preallocate: bool,
    /// qcow2: `0.10` or `1.1`.
    pub compat: Option<String>,
    pub nocow: bool,
    /// qcow2: bytes of a cluster.
    pub cluster_size: Option<u64>,
    pub lazy_refcounts: bool,
    pub extended_l2: bool,
    pub luks: Option<Luks>,
}

/// What a new image lies over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// As it is stored in the image.
    pub path: String,
    pub format: String,
}

/// LUKS encryption to create; what is `None` is QEMU's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Luks {
    /// Name and bits, as `aes-256`.
    pub cipher: Option<String>,
    pub mode: Option<String>,
    pub hash: Option<String>,
    pub ivgen: Option<String>,
    pub ivgen_hash: Option<String>,
}

/// An image to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One image without a passphrase.
    Plain { format: String, file: String },
    /// An encrypted image and what it lies over, topmost first: format and file of each.
    Encrypted { layers: Vec<(String, String)>, secret: Secret },
    /// An image over others, topmost first: format and file of each.
    Chain(Vec<(String, String)>),
}

/// A passphrase in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// QEMU's name of the object.
    pub id: String,
    pub file: String,
}

impl Secret {
    fn object(&self) -> [String; 2] {
        ["--object".into(), format!("secret,id={},file={}", comma(&self.id), comma(&self.file))]
    }
}

/// The argument lists, to be run in this order, that make `image` in the file `target`, with the content of `source`
/// where there is one. Errors: code 67 and 1 with libvirt's texts.
pub fn create(
    image: &NewImage,
    target: &str,
    secret: Option<&Secret>,
    source: Option<&Source>,
) -> Result<Vec<Vec<String>>> {
    check(image, secret)?;
    let crypt = secret.is_some() || matches!(source, Some(Source::Encrypted { .. }));
    let Some(source) = source else { return Ok(vec![empty(image, target, secret)]) };
    // A copy is complete: it lies over nothing, whatever its definition says.
    let image = &NewImage { backing: None, ..image.clone() };
    if crypt {
        return Ok(vec![empty(image, target, secret), fill(image, target, secret, source)]);
    }
    let mut args = vec!["convert".to_string()];
    let input = match source {
        Source::Plain { format, file } => {
            args.extend(["-f".to_string(), format.clone()]);
            file.clone()
        }
        _ => {
            args.push("--image-opts".into());
            image_opts(source)
        }
    };
    args.extend(["-O".to_string(), image.format.clone()]);
    push_options(&mut args, image, None);
    args.extend([input, target.to_string()]);
    Ok(vec![args])
}

/// The arguments that make an image `capacity` bytes large. What it lies over is given with it: the new part must not
/// show what is there.
pub fn resize(image: &Source, capacity: u64, options: Resize) -> Vec<String> {
    let mut args = vec!["resize".to_string()];
    if options.preallocate {
        args.push("--preallocation=falloc".into());
    }
    if options.shrink {
        args.push("--shrink".into());
    }
    match image {
        Source::Plain { format, file } => args.extend(["-f".to_string(), format.clone(), file.clone()]),
        Source::Encrypted { secret, .. } => {
            args.extend(secret.object());
            args.extend(["--image-opts".to_string(), image_opts(image)]);
        }
        Source::Chain(_) => args.extend(["--image-opts".to_string(), image_opts(image)]),
    }
    args.push(capacity.to_string());
    args
}

/// How [`resize`] goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resize {
    pub shrink: bool,
    pub preallocate: bool,
}

fn check(image: &NewImage, secret: Option<&Secret>) -> Result<()> {
    let refuse = |text: &str| Err(Error::unsupported_config(text));
    let qcow2 = image.format == "qcow2";
    if image.preallocate && !qcow2 {
        return refuse("metadata preallocation only available with qcow2");
    }
    if !qcow2 && (image.compat.is_some() || image.lazy_refcounts || image.extended_l2) {
        return refuse("format features only available with qcow2");
    }
    if let Some(backing) = &image.backing {
        if image.format == "raw" {
            return refuse("cannot set backing store for raw volume");
        }
        if image.preallocate {
            return refuse("metadata preallocation conflicts with backing store");
        }
        if backing.path.is_empty() {
            return refuse("inaccessible backing store volume: its path is empty");
        }
    }
    if image.compat.as_deref() == Some("0.10") {
        for (asked, what) in [(image.lazy_refcounts, "lazy_refcounts"), (image.extended_l2, "'extended_l2'")] {
            if asked {
                return Err(Error::unsupported_config(format!("{what} not supported with compat level 0.10")));
            }
        }
    }
    if image.luks.is_some() && !matches!(image.format.as_str(), "raw" | "qcow2") {
        let format = &image.format;
        return Err(Error::unsupported_config(format!("volume encryption unsupported with format {format}")));
    }
    if image.luks.is_some() != secret.is_some() {
        return refuse("no secret provided for luks encryption");
    }
    Ok(())
}

fn empty(image: &NewImage, target: &str, secret: Option<&Secret>) -> Vec<String> {
    let format = if image.format == "raw" && secret.is_some() { "luks" } else { &image.format };
    let mut args: Vec<String> = vec!["create".into(), "-f".into(), format.into()];
    if let Some(backing) = &image.backing {
        args.extend(["-b".to_string(), backing.path.clone()]);
    }
    if let Some(secret) = secret {
        args.extend(secret.object());
    }
    push_options(&mut args, image, secret);
    args.push(target.to_string());
    if image.capacity != 0 || image.backing.is_none() {
        args.push(format!("{}K", image.capacity.div_ceil(1024)));
    }
    args
}

/// Copies `source` into the image that is there.
fn fill(image: &NewImage, target: &str, secret: Option<&Secret>, source: &Source) -> Vec<String> {
    let mut args: Vec<String> = ["convert", "--image-opts", "-n", "--target-image-opts"].map(String::from).to_vec();
    if let Source::Encrypted { secret, .. } = source {
        args.extend(secret.object());
    }
    if let Some(secret) = secret {
        args.extend(secret.object());
    }
    args.push(image_opts(source));
    args.push(match secret {
        Some(secret) => encrypted_opts(&image.format, target, &secret.id),
        None => format!("driver={},file.filename={}", image.format, comma(target)),
    });
    args
}

/// `-o`: options of the format.
fn push_options(args: &mut Vec<String>, image: &NewImage, secret: Option<&Secret>) {
    let mut options: Vec<String> = Vec::new();
    if let Some(backing) = &image.backing {
        options.push(format!("backing_fmt={}", backing.format));
    }
    if let (Some(luks), Some(secret)) = (&image.luks, secret) {
        let prefix = if image.format == "raw" { "" } else { "encrypt." };
        if image.format != "raw" {
            options.push("encrypt.format=luks".into());
        }
        let parts = [
            ("key-secret", Some(&secret.id)),
            ("cipher-alg", luks.cipher.as_ref()),
            ("cipher-mode", luks.mode.as_ref()),
            ("hash-alg", luks.hash.as_ref()),
            ("ivgen-alg", luks.ivgen.as_ref()),
            ("ivgen-hash-alg", luks.ivgen_hash.as_ref()),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                options.push(format!("{prefix}{key}={}", comma(value)));
            }
        }
    }
    if image.preallocate {
        let all = image.capacity <= image.allocation;
        options.push(format!("preallocation={}", if all { "falloc" } else { "metadata" }));
    }
    if image.nocow {
        options.push("nocow=on".into());
    }
    match &image.compat {
        Some(compat) => options.push(format!("compat={compat}")),
        // Without a word, as new as every QEMU of the last ten years can read.
        None if image.format == "qcow2" => options.push("compat=1.1".into()),
        None => {}
    }
    if let Some(bytes) = image.cluster_size.filter(|bytes| *bytes > 0) {
        options.push(format!("cluster_size={bytes}"));
    }
    for (asked, name) in [(image.lazy_refcounts, "lazy_refcounts"), (image.extended_l2, "extended_l2")] {
        if asked {
            options.push(format!("{name}=on"));
        }
    }
    if !options.is_empty() {
        args.extend(["-o".to_string(), options.join(",")]);
    }
}

fn image_opts(source: &Source) -> String {
    match source {
        Source::Plain { format, file } => format!("driver={format},file.filename={}", comma(file)),
        Source::Encrypted { layers, secret } => match layers.as_slice() {
            [(format, file)] => encrypted_opts(format, file, &secret.id),
            layers => chain_opts(layers, Some(secret)),
        },
        Source::Chain(layers) => chain_opts(layers, None),
    }
}

/// Images over each other, spelled out: what a header names is opened by nobody. `secret` unlocks the topmost.
fn chain_opts(layers: &[(String, String)], secret: Option<&Secret>) -> String {
    let mut text = String::new();
    let mut prefix = String::new();
    for (format, file) in layers {
        let separator = if text.is_empty() { "" } else { "," };
        let file = comma(file);
        let _ =
            write!(text, "{separator}{prefix}driver={format},{prefix}file.driver=file,{prefix}file.filename={file}");
        if let Some(secret) = secret.filter(|_| prefix.is_empty()) {
            let _ = write!(text, ",encrypt.key-secret={}", comma(&secret.id));
        }
        prefix.push_str("backing.");
    }
    text
}

fn encrypted_opts(format: &str, file: &str, secret: &str) -> String {
    let (driver, prefix) = if format == "raw" { ("luks", "") } else { (format, "encrypt.") };
    format!("driver={driver},file.filename={},{prefix}key-secret={}", comma(file), comma(secret))
}

/// A value in a comma-separated list.
fn comma(text: &str) -> String {
    text.replace(',', ",,")
}

/// The format that a volume's content is copied as: what only a label distinguishes from raw is raw. Errors: code 1.
pub fn input_format(format: &str) -> Result<&str> {
    match format {
        "raw" | "iso" | "none" => Ok("raw"),
        "dir" => Err(Error::new(Code::InternalError, "cannot copy from a directory volume")),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2() -> NewImage {
        NewImage { format: "qcow2".into(), capacity: (1 << 30) + 1, ..NewImage::default() }
    }

    fn words(lists: &[Vec<String>]) -> Vec<String> {
        lists.iter().map(|list| list.join(" ")).collect()
    }

    #[test]
    fn options_are_in_one_list_and_commas_doubled() {
        let image = NewImage {
            backing: Some(Backing { path: "/base,1".into(), format: "raw".into() }),
            cluster_size: Some(131_072),
            lazy_refcounts: true,
            extended_l2: true,
            nocow: true,
            luks: Some(Luks { cipher: Some("aes-256".into()), ivgen_hash: Some("sha256".into()), ..Luks::default() }),
            ..qcow2()
        };
        let secret = Secret { id: "s".into(), file: "/a,b".into() };
        assert_eq!(
            words(&create(&image, "/x", Some(&secret), None).unwrap()),
            ["create -f qcow2 -b /base,1 --object secret,id=s,file=/a,,b -o backing_fmt=raw,encrypt.format=luks,\
              encrypt.key-secret=s,encrypt.cipher-alg=aes-256,encrypt.ivgen-hash-alg=sha256,nocow=on,compat=1.1,\
              cluster_size=131072,lazy_refcounts=on,extended_l2=on /x 1048577K"]
        );
        let raw = NewImage { format: "raw".into(), luks: Some(Luks::default()), ..NewImage::default() };
        assert_eq!(
            words(&create(&raw, "/x", Some(&secret), None).unwrap()),
            ["create -f luks --object secret,id=s,file=/a,,b -o key-secret=s /x 0K"]
        );
    }

    #[test]
    fn a_chain_is_spelled_out() {
        let chain = Source::Chain(vec![("qcow2".into(), "/a".into()), ("raw".into(), "/b,c".into())]);
        assert_eq!(
            words(&create(&qcow2(), "/x", None, Some(&chain)).unwrap()),
            ["convert --image-opts -O qcow2 -o compat=1.1 driver=qcow2,file.driver=file,file.filename=/a,\
              backing.driver=raw,backing.file.driver=file,backing.file.filename=/b,,c /x"]
        );
    }

    #[test]
    fn a_chain_is_copied_into_and_out_of_encryption() {
        let layers = vec![("qcow2".to_string(), "/a".to_string()), ("raw".to_string(), "/b".to_string())];
        let raw = NewImage { format: "raw".into(), capacity: 1024, ..NewImage::default() };
        let luks = NewImage { luks: Some(Luks::default()), ..raw.clone() };
        let key = |id: &str| Secret { id: id.into(), file: format!("/{id}") };
        let below = "backing.driver=raw,backing.file.driver=file,backing.file.filename=/b";
        assert_eq!(
            words(&create(&luks, "/x", Some(&key("new")), Some(&Source::Chain(layers.clone()))).unwrap()),
            [
                "create -f luks --object secret,id=new,file=/new -o key-secret=new /x 1K".to_string(),
                format!(
                    "convert --image-opts -n --target-image-opts --object secret,id=new,file=/new \
                     driver=qcow2,file.driver=file,file.filename=/a,{below} \
                     driver=luks,file.filename=/x,key-secret=new"
                )
            ]
        );
        let locked = Source::Encrypted { layers, secret: key("old") };
        assert_eq!(
            words(&create(&raw, "/x", None, Some(&locked)).unwrap())[1],
            format!(
                "convert --image-opts -n --target-image-opts --object secret,id=old,file=/old \
                 driver=qcow2,file.driver=file,file.filename=/a,encrypt.key-secret=old,{below} \
                 driver=raw,file.filename=/x"
            )
        );
    }

    #[test]
    fn a_copy_lies_over_nothing() {
        let backing = Some(Backing { path: "/base".into(), format: "raw".into() });
        let image = NewImage { backing, capacity: 1024, ..qcow2() };
        let source = Source::Plain { format: "raw".into(), file: "/a".into() };
        let plain = words(&create(&image, "/x", None, Some(&source)).unwrap());
        assert_eq!(plain, ["convert -f raw -O qcow2 -o compat=1.1 /a /x"]);
        let luks = NewImage { luks: Some(Luks::default()), ..image };
        let secret = Secret { id: "s".into(), file: "/f".into() };
        let locked = words(&create(&luks, "/x", Some(&secret), Some(&source)).unwrap());
        assert!(!locked.join(" ").contains("back"), "{locked:?}");
    }

    #[test]
    fn sizes_and_keys_of_a_resize() {
        let image = Source::Plain { format: "qcow2".into(), file: "/x".into() };
        let plain = resize(&image, 5, Resize { shrink: true, preallocate: true });
        assert_eq!(plain.join(" "), "resize --preallocation=falloc --shrink -f qcow2 /x 5");
        let secret = Secret { id: "s".into(), file: "/f".into() };
        let image = Source::Encrypted { layers: vec![("raw".into(), "/x".into())], secret };
        let crypt = resize(&image, 5, Resize::default());
        assert_eq!(
            crypt.join(" "),
            "resize --object secret,id=s,file=/f --image-opts driver=luks,file.filename=/x,key-secret=s 5"
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let backing = Some(Backing { path: "/b".into(), format: "raw".into() });
        let cases = [
            (NewImage { format: "raw".into(), preallocate: true, ..qcow2() }, "only available with qcow2"),
            (NewImage { format: "vdi".into(), compat: Some("1.1".into()), ..qcow2() }, "only available with qcow2"),
            (NewImage { format: "raw".into(), backing: backing.clone(), ..qcow2() }, "backing store for raw"),
            (NewImage { backing, preallocate: true, ..qcow2() }, "conflicts with backing store"),
            (NewImage { compat: Some("0.10".into()), extended_l2: true, ..qcow2() }, "compat level 0.10"),
            (NewImage { luks: Some(Luks::default()), ..qcow2() }, "no secret"),
            (
                NewImage { format: "vmdk".into(), luks: Some(Luks::default()), ..qcow2() },
                "unsupported with format vmdk",
            ),
        ];
        for (image, says) in cases {
            let error = create(&image, "/x", None, None).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
