//! The service manager: readiness, stopping, watchdog. Without one (`NOTIFY_SOCKET` unset) nothing happens.

use sd_notify::NotifyState;

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Start-up is done.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Stopping from now on.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Feeds the watchdog for ever, if the service manager has one for us: twice per period, from a task, so that a
/// runtime that is stuck goes hungry.
pub async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}
