//! Storage nodes of images that are not in this host's file system, and the secrets that images need.

use super::{Props, not_yet};
use crate::domain_xml::device::*;
use crate::domain_xml::foreign::Foreign;
use crate::error::{Error, Result};

/// What a start does not prepare, by its name for the refusal.
pub(super) fn unprepared(source: &StorageSource) -> Option<&'static str> {
    match source.kind {
        StorageKind::Nvme => Some("<disk type='nvme'>"),
        _ => source.slice.as_ref().map(|_| "<slice>"),
    }
}

fn secret_id(source: &StorageSource, purpose: &str) -> String {
    format!("libvirt-{}-{purpose}-secret0", source.index.unwrap_or_default())
}

/// A secret object of a layer.
#[derive(Debug)]
pub struct LayerSecret<'s> {
    pub id: String,
    pub content: SecretContent<'s>,
}

/// What a secret object holds.
#[derive(Debug)]
pub enum SecretContent<'s> {
    /// The value of a secret.
    Of(SecretPurpose, &'s SecretRef),
    /// Cookies, as a browser would send them.
    Cookies(&'s [(String, String)]),
}

impl SecretContent<'_> {
    /// Cookies in the form of a `Cookie:` header.
    pub fn cookies(cookies: &[(String, String)]) -> String {
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }
}

/// The secret objects of a layer, in libvirt's order. Error: code 67 for encryption without a secret.
pub fn secrets(source: &StorageSource) -> Result<Vec<LayerSecret<'_>>> {
    let mut all = Vec::new();
    for (purpose, secret) in source.secrets()? {
        let word = match purpose {
            SecretPurpose::Auth => "storage-auth",
            SecretPurpose::Encryption => "format-encryption",
        };
        all.push(LayerSecret { id: secret_id(source, word), content: SecretContent::Of(purpose, secret) });
    }
    if let Some(network) = source.network.as_ref().filter(|network| !network.cookies.is_empty()) {
        let content = SecretContent::Cookies(&network.cookies);
        let at = usize::from(source.auth.is_some());
        all.insert(at, LayerSecret { id: secret_id(source, "storage-httpcookie"), content });
    }
    Ok(all)
}

/// A secret object that is only shown. Its data is nobody's who may see a command line.
pub(super) fn on_paper(id: &str) -> Props {
    let object = Props::object("secret", id).set("data", "").set("keyid", "masterKey0");
    object.set("iv", "").set("format", "base64")
}

/// `encrypt` of a qcow2 image, or the options of the `luks` driver. Errors for forms other than LUKS.
pub(super) fn encryption(source: &StorageSource) -> Result<Option<String>> {
    let Some(encryption) = &source.encryption else { return Ok(None) };
    let qemu = matches!(encryption.engine, None | Some(EncryptionEngine::Qemu));
    if encryption.format != EncryptionFormat::Luks || !qemu || encryption.secrets.len() > 1 {
        return Err(not_yet(format!("<encryption format='{}'> of this kind", encryption.format)));
    }
    Ok(Some(secret_id(source, "format-encryption")))
}

/// The storage node of a namespace of an NVMe device.
pub(super) fn nvme(source: &NvmeSource) -> Props {
    let address = source.address.to_string();
    Props::new().set("driver", "nvme").set("device", address).set("namespace", source.namespace)
}

/// The storage node of a network source, all protocols but NBD.
pub(super) fn network(dev: &str, source: &StorageSource, network: &NetworkSource) -> Result<Props> {
    if network.tls.is_some_and(|tls| tls.is_yes()) {
        return Err(not_yet(format!("tls='yes' of disk '{dev}'")));
    }
    match network.protocol {
        NetworkProtocol::Rbd => rbd(dev, source, network),
        NetworkProtocol::Http | NetworkProtocol::Https | NetworkProtocol::Ftp | NetworkProtocol::Ftps => {
            url(dev, source, network)
        }
        NetworkProtocol::Iscsi => iscsi(dev, source, network),
        NetworkProtocol::Nfs => nfs(dev, network),
        other => Err(not_yet(format!("protocol '{other}' of disk '{dev}'"))),
    }
}

fn name<'n>(dev: &str, network: &'n NetworkSource) -> Result<&'n str> {
    network.name.as_deref().ok_or_else(|| Error::internal(format!("the network source of disk '{dev}' has no name")))
}

fn only_host<'n>(dev: &str, network: &'n NetworkSource) -> Result<&'n NetworkHost> {
    match network.hosts.as_slice() {
        [host] => Ok(host),
        _ => {
            let what = format!("protocol '{}' accepts only one host (disk '{dev}')", network.protocol);
            Err(Error::internal(what))
        }
    }
}

fn rbd(dev: &str, source: &StorageSource, network: &NetworkSource) -> Result<Props> {
    let Some((pool, image)) = name(dev, network)?.split_once('/') else {
        return Err(Error::internal(format!("the rbd source of disk '{dev}' is not POOL/IMAGE")));
    };
    let (space, image) = match image.split_once('/') {
        Some((space, image)) => (Some(space), image),
        None => (None, image),
    };
    let mut p = Props::new().set("driver", "rbd").set("pool", pool).set_opt("namespace", space).set("image", image);
    p = p.set_opt("snapshot", network.snapshot.as_deref()).set_opt("conf", network.config_file.as_deref());
    if !network.hosts.is_empty() {
        let host = |host: &NetworkHost| {
            let p = Props::new().set_opt("host", host.name.as_deref());
            p.set("port", host.port.unwrap_or(6789).to_string())
        };
        p = p.list("server", network.hosts.iter().map(host).collect());
    }
    if let Some(auth) = &source.auth {
        let modes = vec!["cephx".to_string(), "none".to_string()];
        p = p.set("user", auth.username.as_str()).set("auth-client-required", modes);
        p = p.set("key-secret", secret_id(source, "storage-auth"));
    }
    Ok(p)
}

fn url(dev: &str, source: &StorageSource, network: &NetworkSource) -> Result<Props> {
    let host = only_host(dev, network)?;
    let protocol = network.protocol.as_str();
    let port = host.port.unwrap_or(match network.protocol {
        NetworkProtocol::Http => 80,
        NetworkProtocol::Https => 443,
        NetworkProtocol::Ftp => 21,
        _ => 990,
    });
    let server = bracketed(host.name.as_deref().unwrap_or_default());
    let query = network.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{protocol}://{server}:{port}/{}{query}", name(dev, network)?.trim_start_matches('/'));
    let mut p = Props::new().set("driver", protocol).set("url", url);
    if let Some(auth) = &source.auth {
        p = p.set("username", auth.username.as_str()).set("password-secret", secret_id(source, "storage-auth"));
    }
    if let Some(verify) = network.ssl_verify {
        p = p.set("sslverify", verify.is_yes());
    }
    if !network.cookies.is_empty() {
        p = p.set("cookie-secret", secret_id(source, "storage-httpcookie"));
    }
    Ok(p.set_opt("readahead", network.readahead).set_opt("timeout", network.timeout))
}

/// IPv6 addresses stand in brackets where a port follows.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

fn iscsi(dev: &str, source: &StorageSource, network: &NetworkSource) -> Result<Props> {
    let host = only_host(dev, network)?;
    let (target, lun) = match name(dev, network)?.rsplit_once('/') {
        Some((target, lun)) => (target, lun.parse::<u64>().ok()),
        None => (name(dev, network)?, Some(0)),
    };
    let lun =
        lun.ok_or_else(|| Error::internal(format!("the iscsi source of disk '{dev}' has no number as its lun")))?;
    let portal = format!("{}:{}", bracketed(host.name.as_deref().unwrap_or_default()), host.port.unwrap_or(3260));
    let mut p = Props::new().set("driver", "iscsi").set("portal", portal).set("target", target).set("lun", lun);
    p = p.set("transport", "tcp").set_opt("initiator-name", network.initiator_iqn.as_deref());
    if let Some(auth) = &source.auth {
        p = p.set("user", auth.username.as_str()).set("password-secret", secret_id(source, "storage-auth"));
    }
    Ok(p)
}

fn nfs(dev: &str, network: &NetworkSource) -> Result<Props> {
    let host = only_host(dev, network)?;
    let server = Props::new().set_opt("host", host.name.as_deref()).set("type", "inet");
    let path = name(dev, network)?;
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let mut p = Props::new().set("driver", "nfs").nest("server", server).set("path", path);
    let identity = network.later.iter().find(|element: &&Foreign| element.name == "identity");
    for (key, value) in identity.iter().flat_map(|element| &element.attributes) {
        // A plus sign says that it is a number; names would have to be looked up.
        let Ok(id) = value.trim_start_matches('+').parse::<u32>() else {
            return Err(not_yet(format!("<identity> with a name (disk '{dev}')")));
        };
        p = p.set(key, id);
    }
    Ok(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(protocol: NetworkProtocol, name: &str, host: (&str, Option<u32>)) -> StorageSource {
        let host = NetworkHost { name: Some(host.0.into()), port: host.1, ..NetworkHost::default() };
        let network =
            NetworkSource { protocol, name: Some(name.into()), hosts: vec![host], ..NetworkSource::default() };
        StorageSource { kind: StorageKind::Network, network: Some(network), index: Some(3), ..StorageSource::default() }
    }

    fn json(source: &StorageSource) -> String {
        network("vda", source, source.network.as_ref().unwrap()).unwrap().json()
    }

    #[test]
    fn nodes() {
        let rbd = source(NetworkProtocol::Rbd, "pool/space/image", ("mon", None));
        assert_eq!(
            json(&rbd),
            r#"{"driver":"rbd","pool":"pool","namespace":"space","image":"image","server":[{"host":"mon","port":"6789"}]}"#
        );
        let http = source(NetworkProtocol::Https, "/a.img", ("::1", None));
        assert_eq!(json(&http), r#"{"driver":"https","url":"https://[::1]:443/a.img"}"#);
        let iscsi = source(NetworkProtocol::Iscsi, "iqn.x:y/2", ("h", Some(6000)));
        assert!(json(&iscsi).contains(r#""portal":"h:6000","target":"iqn.x:y","lun":2"#));
        assert!(json(&source(NetworkProtocol::Nfs, "/d/e", ("h", None))).contains(r#""path":"/d/e""#));
    }

    #[test]
    fn what_a_start_refuses_has_a_name() {
        assert_eq!(unprepared(&source(NetworkProtocol::Rbd, "a/b", ("h", None))), None);
        let sliced = StorageSource { slice: Some(StorageSlice::default()), ..StorageSource::default() };
        assert_eq!(unprepared(&sliced).unwrap(), "<slice>");
        let nvme = StorageSource { kind: StorageKind::Nvme, ..StorageSource::default() };
        assert_eq!(unprepared(&nvme).unwrap(), "<disk type='nvme'>");
    }

    #[test]
    fn objects_are_in_libvirts_order() {
        let named = SecretRef { uuid: Some("u".into()), ..SecretRef::default() };
        let mut layer = source(NetworkProtocol::Https, "/a", ("h", None));
        layer.auth = Some(DiskAuth { username: "me".into(), secret: named.clone() });
        let locked = Encryption { format: EncryptionFormat::Luks, secrets: vec![named], ..Encryption::default() };
        layer.encryption = Some(locked);
        let cookies = vec![("a".to_string(), "1".to_string()), ("b".to_string(), "2".to_string())];
        assert_eq!(SecretContent::cookies(&cookies), "a=1; b=2");
        layer.network.as_mut().unwrap().cookies = cookies;
        let ids: Vec<String> = secrets(&layer).unwrap().into_iter().map(|secret| secret.id).collect();
        let words = ["storage-auth", "storage-httpcookie", "format-encryption"];
        assert_eq!(ids, words.map(|word| format!("libvirt-3-{word}-secret0")));
        layer.encryption.as_mut().unwrap().secrets.clear();
        assert!(secrets(&layer).unwrap_err().message().contains("names no <secret>"));
    }
}
