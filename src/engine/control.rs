//! What is asked of a running guest that changes none of its definitions.

use serde_json::Value;

/// Why the program inside the guest refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRefusal {
    /// `CommandNotFound`, `CommandDisabled`, `GenericError` ...
    pub class: String,
    pub text: String,
}

impl AgentRefusal {
    /// The agent does not know the command, or was told not to do it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.class.as_str(), "CommandNotFound" | "CommandDisabled")
    }
}

/// What the agent said.
pub type AgentAnswer = std::result::Result<Value, AgentRefusal>;

/// A command for the agent inside the guest.
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// `guest-get-time`.
    pub name: String,
    /// An object, or null.
    pub arguments: Value,
    /// libvirt's function that needs it, for who has no agent.
    pub function: &'static str,
    /// As `virDomainQemuAgentCommand` has it: -2 as long as it takes, -1 the default, 0 not at all, else seconds. `None`:
    /// what was set for the domain.
    pub timeout: Option<i32>,
}

/// Something to be done to the guest from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A non-maskable interrupt.
    InjectNmi,
    /// Keys held together; numbers of QEMU's own (`qnum`).
    SendKeys { hold_ms: u32, keys: Vec<u32> },
    /// A disk is another size now, bytes.
    ResizeDisk { target: String, bytes: u64 },
    /// An event when a node is written to beyond this many bytes; 0 takes it away.
    WriteThreshold { device: String, bytes: u64 },
    /// Out of a suspend to memory.
    Wakeup,
    /// A signal to a process inside a container.
    Signal { pid: i64, number: u32 },
}

impl Control {
    /// libvirt's function for it.
    pub fn function(&self) -> &'static str {
        match self {
            Control::InjectNmi => "virDomainInjectNMI",
            Control::SendKeys { .. } => "virDomainSendKey",
            Control::ResizeDisk { .. } => "virDomainBlockResize",
            Control::WriteThreshold { .. } => "virDomainSetBlockThreshold",
            Control::Wakeup => "virDomainPMWakeup",
            Control::Signal { .. } => "virDomainSendProcessSignal",
        }
    }
}
