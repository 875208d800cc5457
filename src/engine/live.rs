//! Changes a guest makes to its own live definition.

use super::driver::LiveChange;
use crate::domain_xml::DomainDef;
use crate::domain_xml::clock::ClockOffset;
use crate::domain_xml::device::{ChannelState, ChannelTarget, Tray};

/// Applies `change` to the live definition. A device that is gone meanwhile is no error.
pub(super) fn apply(live: &mut DomainDef, change: &LiveChange) {
    match change {
        LiveChange::CurrentMemory(kib) => live.memory.current = Some(*kib),
        LiveChange::Tray { alias, open } => {
            let tray = if *open { Tray::Open } else { Tray::Closed };
            for disk in live.disks.iter_mut().filter(|disk| disk.info.alias.as_ref() == Some(alias)) {
                disk.target.tray = Some(tray);
            }
        }
        LiveChange::ClockAdjustment(seconds) => {
            // A guest that sets its clock moves a `variable` offset; the others are fixed by definition.
            if let ClockOffset::Variable { adjustment, .. } = &mut live.clock.offset {
                *adjustment = *seconds;
            }
        }
        LiveChange::Channel { alias, connected } => {
            let new = if *connected { ChannelState::Connected } else { ChannelState::Disconnected };
            for channel in live.channels.iter_mut().filter(|channel| channel.info.alias.as_ref() == Some(alias)) {
                if let ChannelTarget::Virtio { state, .. } = &mut channel.target {
                    *state = Some(new);
                }
            }
        }
    }
}
