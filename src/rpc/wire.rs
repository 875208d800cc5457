//! The structures that many procedures share: object handles, typed parameters, errors.

use super::xdr::{Garbled, Put, Reader, Take};
use crate::engine::domain::DomainSnapshot;
use crate::engine::event::{Named, SecretId};
use crate::engine::interface::HostInterface;
use crate::engine::network::Network;
use crate::engine::node_device::NodeDevice;
use crate::engine::nwfilter::NwFilter;
use crate::engine::secret::Secret;
use crate::engine::storage::{StoragePool, StorageVol};
use crate::engine::{Connection, Domain};
use crate::error::Error;
use crate::types::{ParamValue, TypedParams, Uuid};

/// A domain as the wire names it. Only the UUID is looked at when one comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainHandle {
    pub name: String,
    pub uuid: Uuid,
    /// -1 when it does not run.
    pub id: i32,
}

impl From<&Domain> for DomainHandle {
    fn from(domain: &Domain) -> DomainHandle {
        DomainHandle { name: domain.name(), uuid: domain.uuid(), id: domain.id().unwrap_or(-1) }
    }
}

impl Put for DomainHandle {
    fn put(&self, out: &mut Vec<u8>) {
        self.name.put(out);
        self.uuid.put(out);
        self.id.put(out);
    }
}

impl Take for DomainHandle {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let (name, uuid, id) = Take::take(from)?;
        Ok(DomainHandle { name, uuid, id })
    }
}

/// A network or a storage pool as the wire names it. Only the UUID is looked at when one comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedHandle {
    pub name: String,
    pub uuid: Uuid,
}

/// A storage volume as the wire names it; the pool by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeHandle {
    pub pool: String,
    pub name: String,
    pub key: String,
}

/// A node device as the wire names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHandle {
    pub name: String,
}

/// An interface of the host as the wire names it. Only the name is looked at when one comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceHandle {
    pub name: String,
    pub mac: String,
}

/// A snapshot as the wire names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHandle {
    pub name: String,
    pub domain: DomainHandle,
}

/// A secret as the wire names it. Only the UUID is looked at when one comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHandle {
    pub uuid: Uuid,
    /// `virSecretUsageType`
    pub usage_type: i32,
    pub usage_id: String,
}

/// Fields in the order of the wire.
macro_rules! structure {
    ($name:ident { $($field:ident),+ }) => {
        impl Put for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)+
            }
        }

        impl Take for $name {
            fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
                $(let $field = Take::take(from)?;)+
                Ok($name { $($field),+ })
            }
        }
    };
}

structure!(NamedHandle { name, uuid });
structure!(VolumeHandle { pool, name, key });
structure!(DeviceHandle { name });
structure!(SnapshotHandle { name, domain });
structure!(InterfaceHandle { name, mac });
structure!(SecretHandle { uuid, usage_type, usage_id });

impl From<&Named> for NamedHandle {
    fn from(named: &Named) -> NamedHandle {
        NamedHandle { name: named.name.clone(), uuid: named.uuid }
    }
}

impl From<&SecretId> for SecretHandle {
    fn from(secret: &SecretId) -> SecretHandle {
        SecretHandle { uuid: secret.uuid, usage_type: secret.usage_type, usage_id: secret.usage_id.clone() }
    }
}

/// A type of object that procedures are called on: how the wire names one, and which one a name means.
pub trait Remote: Sized {
    type Handle: Put + Take + Send;
    /// The object that a client's handle names.
    fn find(connection: &Connection, handle: Self::Handle) -> crate::error::Result<Self>;
    /// The object's name.
    fn handle(&self) -> Self::Handle;
}

impl Remote for Domain {
    type Handle = DomainHandle;

    fn find(connection: &Connection, handle: DomainHandle) -> crate::error::Result<Self> {
        connection.domain(&handle.uuid)
    }

    fn handle(&self) -> DomainHandle {
        DomainHandle::from(self)
    }
}

impl Remote for Network {
    type Handle = NamedHandle;

    fn find(connection: &Connection, handle: NamedHandle) -> crate::error::Result<Self> {
        connection.host().networks.find(handle.uuid, &handle.name)
    }

    fn handle(&self) -> NamedHandle {
        NamedHandle { name: self.name().to_string(), uuid: self.uuid() }
    }
}

impl Remote for StoragePool {
    type Handle = NamedHandle;

    fn find(connection: &Connection, handle: NamedHandle) -> crate::error::Result<Self> {
        connection.host().pools.find(handle.uuid, &handle.name)
    }

    fn handle(&self) -> NamedHandle {
        NamedHandle { name: self.name().to_string(), uuid: self.uuid() }
    }
}

impl Remote for StorageVol {
    type Handle = VolumeHandle;

    fn find(connection: &Connection, handle: VolumeHandle) -> crate::error::Result<Self> {
        connection.host().volume(&handle.pool, &handle.name)
    }

    fn handle(&self) -> VolumeHandle {
        VolumeHandle { pool: self.pool.name().to_string(), name: self.name.clone(), key: self.key.clone() }
    }
}

impl Remote for Secret {
    type Handle = SecretHandle;

    fn find(connection: &Connection, handle: SecretHandle) -> crate::error::Result<Self> {
        connection.host().secrets.find(handle.uuid, "")
    }

    fn handle(&self) -> SecretHandle {
        SecretHandle::from(&self.id())
    }
}

impl Remote for NodeDevice {
    type Handle = DeviceHandle;

    fn find(connection: &Connection, handle: DeviceHandle) -> crate::error::Result<Self> {
        Ok(connection.host().node_devices.named(&handle.name))
    }

    fn handle(&self) -> DeviceHandle {
        DeviceHandle { name: self.name.clone() }
    }
}

impl Remote for HostInterface {
    type Handle = InterfaceHandle;

    fn find(connection: &Connection, handle: InterfaceHandle) -> crate::error::Result<Self> {
        Ok(connection.host().interfaces.named(&handle.name, &handle.mac))
    }

    fn handle(&self) -> InterfaceHandle {
        InterfaceHandle { name: self.name.clone(), mac: self.mac.clone() }
    }
}

impl Remote for DomainSnapshot {
    type Handle = SnapshotHandle;

    fn find(connection: &Connection, handle: SnapshotHandle) -> crate::error::Result<Self> {
        Ok(DomainSnapshot { domain: connection.domain(&handle.domain.uuid)?, name: handle.name })
    }

    fn handle(&self) -> SnapshotHandle {
        SnapshotHandle { name: self.name.clone(), domain: DomainHandle::from(&self.domain) }
    }
}

impl Remote for NwFilter {
    type Handle = NamedHandle;

    fn find(connection: &Connection, handle: NamedHandle) -> crate::error::Result<Self> {
        connection.host().filters("virNWFilterLookupByUUID")?.find(handle.uuid, &handle.name)
    }

    fn handle(&self) -> NamedHandle {
        NamedHandle { name: self.name().to_string(), uuid: self.uuid() }
    }
}

/// `remote_typed_param<>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(pub TypedParams);

impl Put for Params {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.0.0.len()).unwrap_or(u32::MAX).put(out);
        for (name, value) in &self.0.0 {
            name.put(out);
            match value {
                ParamValue::Int(value) => (1i32, *value).put(out),
                ParamValue::Uint(value) => (2i32, *value).put(out),
                ParamValue::Llong(value) => (3i32, *value).put(out),
                ParamValue::Ullong(value) => (4i32, *value).put(out),
                ParamValue::Double(value) => (5i32, *value).put(out),
                ParamValue::Bool(value) => (6i32, *value).put(out),
                ParamValue::Str(value) => (7i32, value.as_str()).put(out),
            }
        }
    }
}

impl Take for Params {
    fn take(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let count = u32::take(from)? as usize;
        // A name, a type and a value have at least twelve bytes.
        if count > from.rest() / 12 {
            return Err(Garbled);
        }
        let mut params = TypedParams::new();
        for _ in 0..count {
            let name = String::take(from)?;
            let value = match i32::take(from)? {
                1 => ParamValue::Int(i32::take(from)?),
                2 => ParamValue::Uint(u32::take(from)?),
                3 => ParamValue::Llong(i64::take(from)?),
                4 => ParamValue::Ullong(u64::take(from)?),
                5 => ParamValue::Double(f64::take(from)?),
                6 => ParamValue::Bool(bool::take(from)?),
                7 => ParamValue::Str(String::take(from)?),
                _ => return Err(Garbled),
            };
            params.push(name, value);
        }
        Ok(Params(params))
    }
}

/// `VIR_TYPED_PARAM_STRING_OKAY`: the caller can take strings among typed parameters.
pub const STRING_OKAY: u32 = 1 << 2;

/// The answer of the calls that first ask for the number of parameters, with 0, and then for that many.
pub fn counted(asked: i32, flags: u32, mut params: TypedParams) -> (Params, i32) {
    if flags & STRING_OKAY == 0 {
        params.0.retain(|(_, value)| !matches!(value, ParamValue::Str(_)));
    }
    let count = params.0.len();
    if asked <= 0 {
        return (Params::default(), i32::try_from(count).unwrap_or(i32::MAX));
    }
    params.0.truncate(asked as usize);
    let given = i32::try_from(params.0.len()).unwrap_or(i32::MAX);
    (Params(params), given)
}

/// Puts libvirt's error structure.
pub fn put_error(error: &Error, out: &mut Vec<u8>) {
    let format = if error.bare { "%s" } else { error.code.format() };
    (error.code as i32, error.subsystem as i32, Some(error.message())).put(out);
    // Level 2 is an error; then no domain.
    (2i32, false).put(out);
    // libvirt's str1 is the untranslated format, str2 the detail; clients match on neither, some print them.
    (Some(format), Some(error.detail.as_str()), None::<String>).put(out);
    // int1, int2; no network.
    (-1i32, -1i32, false).put(out);
}

#[cfg(test)]
mod tests {
    use super::super::xdr::{decode, encode};
    use super::*;

    #[test]
    fn typed_parameters_read_back() {
        let mut params = TypedParams::new();
        params.int("a", -1);
        params.ullong("b", u64::MAX);
        params.push("c", ParamValue::Double(0.5));
        params.push("d", ParamValue::Bool(true));
        params.string("e", "text");
        let params = Params(params);
        assert_eq!(decode::<Params>(&encode(&params)), Ok(params));
    }

    #[test]
    fn the_number_first_then_the_parameters() {
        let mut params = TypedParams::new();
        params.int("a", 1);
        params.string("b", "x");
        assert_eq!(counted(0, 0, params.clone()), (Params::default(), 1));
        assert_eq!(counted(0, STRING_OKAY, params.clone()).1, 2);
        assert_eq!(counted(1, STRING_OKAY, params).0.0.0.len(), 1);
    }
}
