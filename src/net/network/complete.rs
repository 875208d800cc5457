//! What a definition gets before it is kept: UUID, MAC of the bridge, name of the bridge. Pure: chance and the names
//! in use are handed in.

use super::model::NetworkDef;
use crate::error::{Error, Result};
use crate::types::{MacAddr, Uuid};

/// Start of the names chosen for bridges.
pub const BRIDGE_PREFIX: &str = "virbr";

/// Fills in what is missing. `random` is 16 random bytes per call; `in_use` says whether a bridge name is taken, by a
/// network or by a link of the host. Error: code 1 when no name is free.
pub fn complete(
    def: &mut NetworkDef,
    mut random: impl FnMut() -> [u8; 16],
    in_use: impl Fn(&str) -> bool,
) -> Result<()> {
    if def.uuid.is_none() {
        def.uuid = Some(uuid::Builder::from_random_bytes(random()).into_uuid());
    }
    if !def.owns_bridge() {
        return Ok(());
    }
    if def.mac.is_none() {
        let [a, b, c, ..] = random();
        def.mac = Some(MacAddr([0x52, 0x54, 0x00, a, b, c]));
    }
    // libvirt takes `virbr%d` as a request for a number, which old tools write.
    if def.bridge.name.as_deref().is_none_or(|name| name.contains("%d")) {
        def.bridge.name = Some(free_bridge_name(in_use)?);
    }
    Ok(())
}

fn free_bridge_name(in_use: impl Fn(&str) -> bool) -> Result<String> {
    (0..=256)
        .map(|number| format!("{BRIDGE_PREFIX}{number}"))
        .find(|name| !in_use(name))
        .ok_or_else(|| Error::internal("Bridge generation exceeded max id 256: give <bridge name='...'/>"))
}

/// Random bytes for [`complete`].
pub fn random_bytes() -> [u8; 16] {
    // A version 4 UUID has six fixed bits, all outside the first six bytes.
    *Uuid::new_v4().as_bytes()
}
