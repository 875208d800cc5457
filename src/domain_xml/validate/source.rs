//! Where the bytes of a disk come from: network servers, secrets, encryption.

use super::{Check, refuse};
use crate::domain_xml::device::*;
use crate::types::Uuid;

/// One source; a backing chain is the caller's.
pub(super) fn source(source: &StorageSource) -> Check {
    if let Some(network) = &source.network {
        self::network(network)?;
        authentication(source, network.protocol)?;
    }
    if let Some(nvme) = &source.nvme {
        refuse!(if nvme.namespace == 0, ConfigUnsupported, "NVMe namespace can't be zero");
    }
    if let Some(encryption) = &source.encryption {
        for known in &encryption.secrets {
            let kind = known.kind.as_deref().unwrap_or_default();
            refuse!(
                if kind != "passphrase" && !kind.is_empty(), ConfigUnsupported,
                "unknown volume encryption secret type {kind}"
            );
            secret(known)?;
        }
    }
    if let Some(slice) = &source.slice {
        let incomplete = slice.offset.is_none() || slice.size.is_none();
        refuse!(if incomplete, XmlError, "missing offset or size attribute of slice");
    }
    if let Some(reservations) = &source.reservations {
        refuse!(
            if reservations.managed.is_none(), XmlError,
            "Missing required attribute 'managed' in element 'reservations'"
        );
        let own = reservations.managed.is_some_and(|managed| !managed.is_yes());
        refuse!(if own && reservations.path.is_none(), XmlError, "missing connection type for <reservations/>");
    }
    Ok(())
}

fn network(source: &NetworkSource) -> Check {
    let protocol = source.protocol;
    let name = source.name.as_deref().unwrap_or_default();
    refuse!(if name.is_empty() && protocol != NetworkProtocol::Nbd, XmlError, "missing name for disk source");
    let pooled = matches!(protocol, NetworkProtocol::Rbd | NetworkProtocol::Gluster);
    let split = name.trim_start_matches('/').split_once('/');
    let whole = split.is_none_or(|(pool, image)| pool.is_empty() || image.is_empty());
    refuse!(if pooled && whole, XmlError, "can't split path '{name}' into pool name and image name");
    refuse!(
        if protocol == NetworkProtocol::Sheepdog, ConfigUnsupported,
        "'sheepdog' protocol is no longer supported by any hypervisor driver"
    );
    source.hosts.iter().try_for_each(host)?;
    for (nth, (name, value)) in source.cookies.iter().enumerate() {
        let again = source.cookies[..nth].iter().any(|(other, _)| other == name);
        refuse!(if again, XmlError, "duplicate cookie '{name}'");
        let plain = |b: u8| b.is_ascii_graphic();
        let token = |b: u8| plain(b) && !br#"()<>@,;:\"/[]?={}"#.contains(&b);
        refuse!(
            if name.is_empty() || !name.bytes().all(token), XmlError,
            "cookie name '{name}' contains invalid characters"
        );
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let octet = |b: u8| plain(b) && !br#"",;\"#.contains(&b);
        refuse!(if !inner.bytes().all(octet), XmlError, "value of cookie '{name}' contains invalid characters");
    }
    Ok(())
}

fn host(host: &NetworkHost) -> Check {
    let transport = host.transport.unwrap_or_default();
    if transport == HostTransport::Unix {
        refuse!(if host.socket.is_none(), XmlError, "missing socket for unix transport");
    } else {
        refuse!(if host.socket.is_some(), XmlError, "transport '{transport}' does not support socket attribute");
        refuse!(if host.name.is_none(), XmlError, "missing name for host");
    }
    let port = host.port.unwrap_or_default();
    refuse!(if port > 65535, InvalidArg, "port '{port}' out of range");
    Ok(())
}

fn authentication(source: &StorageSource, protocol: NetworkProtocol) -> Check {
    let Some(auth) = &source.auth else { return Ok(()) };
    let expected = match protocol {
        NetworkProtocol::Iscsi => Some("iscsi"),
        NetworkProtocol::Rbd => Some("ceph"),
        _ => None,
    };
    let given = auth.secret.kind.as_deref();
    if let (Some(expected), Some(given)) = (expected, given)
        && expected != given
    {
        return refuse!(ConfigUnsupported, "invalid secret type '{given}'");
    }
    secret(&auth.secret)
}

fn secret(secret: &SecretRef) -> Check {
    refuse!(if secret.uuid.is_none() && secret.usage.is_none(), XmlError, "missing secret uuid or usage attribute");
    refuse!(if secret.uuid.is_some() && secret.usage.is_some(), XmlError, "either secret uuid or usage expected");
    if let Some(uuid) = &secret.uuid {
        refuse!(if Uuid::parse_str(uuid).is_err(), XmlError, "invalid secret uuid '{uuid}'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<disk type='network'><source protocol='rbd' name='x'></source><target dev='vda'/></disk>",
        "XML error: can't split path 'x' into pool name and image name (line 1"
    )]
    #[case(
        "<disk type='network'><source protocol='rbd'></source><target dev='vda'/></disk>",
        "XML error: missing name for disk source"
    )]
    #[case(
        "<disk type='network'><source protocol='sheepdog' name='x'></source><target dev='vda'/></disk>",
        "unsupported configuration: 'sheepdog' protocol is no longer supported"
    )]
    #[case(
        "<disk type='network'><source protocol='nbd'><host transport='unix'/></source><target dev='vda'/></disk>",
        "XML error: missing socket for unix transport"
    )]
    #[case(
        "<disk type='network'><source protocol='nbd'><host/></source><target dev='vda'/></disk>",
        "XML error: missing name for host"
    )]
    #[case(
        "<disk type='network'><source protocol='nbd'><host name='a' socket='/x'/></source><target dev='vda'/></disk>",
        "XML error: transport 'tcp' does not support socket attribute"
    )]
    #[case(
        "<disk type='network'><source protocol='nbd'><host name='a' port='99999'/></source><target dev='vda'/></disk>",
        "invalid argument: port '99999' out of range"
    )]
    #[case(
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><cookies><cookie name='a b'>c</cookie></cookies></source><target dev='vda'/></disk>",
        "XML error: cookie name 'a b' contains invalid characters"
    )]
    #[case(
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><cookies><cookie name='a'>c;d</cookie></cookies></source><target dev='vda'/></disk>",
        "XML error: value of cookie 'a' contains invalid characters"
    )]
    #[case(
        "<disk type='network'><source protocol='iscsi' name='x'><host name='a'/><auth username='u'><secret type='ceph' usage='q'/></auth></source><target dev='vda'/></disk>",
        "unsupported configuration: invalid secret type 'ceph'"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/><encryption format='luks'><secret type='passphrase' uuid='x'/></encryption></disk>",
        "XML error: invalid secret uuid 'x'"
    )]
    #[case(
        "<disk><source file='/x'/><target dev='vda'/><encryption format='luks'><secret type='moon' usage='x'/></encryption></disk>",
        "unsupported configuration: unknown volume encryption secret type moon"
    )]
    #[case(
        "<disk><source file='/x'><slices><slice type='storage' size='1'/></slices></source><target dev='vda'/></disk>",
        "XML error: missing offset or size attribute of slice"
    )]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let text = device_refusal(xml);
        assert!(text.starts_with(expected), "{text}");
    }
}
