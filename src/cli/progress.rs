//! A bar on the terminal while the daemon works on an image.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::client::CallError;
use super::domains::{Driver, Session};

/// Beside `org.libvirt.Connect`.
pub const IMAGES: &str = "org.domus.Images1";
const INTERVAL: Duration = Duration::from_millis(250);
const WIDTH: usize = 30;

/// Waits for `call`, showing how far the job on the image `name` is ("" for the only one there is). Scripts see nothing.
pub async fn watched<T>(
    session: &Session,
    driver: Driver,
    name: &str,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    if session.out.quiet || session.out.json || !std::io::stderr().is_terminal() {
        return call.await;
    }
    tokio::pin!(call);
    let mut shown = false;
    let result = loop {
        tokio::select! {
            result = &mut call => break result,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let jobs: Result<Vec<(String, String, u64, u64)>, CallError> =
            session.client.call(driver.path(), IMAGES, "ListJobs", &()).await;
        let jobs = jobs.unwrap_or_default();
        let job = jobs.iter().find(|job| job.0 == name || (name.is_empty() && jobs.len() == 1));
        if let Some((_, _, done, total)) = job.filter(|job| job.3 > 0) {
            shown = true;
            let _ = write!(std::io::stderr(), "\r{}", bar(*done, *total));
        }
    };
    if shown {
        let end = if result.is_ok() { bar(1, 1) } else { String::new() };
        let _ = writeln!(std::io::stderr(), "\r{end}");
    }
    result
}

fn bar(done: u64, total: u64) -> String {
    let share = (done as f64 / total as f64).clamp(0.0, 1.0);
    let full = (share * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0} %", "#".repeat(full), ".".repeat(WIDTH - full), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(bar(0, 10), format!("[{}]   0 %", ".".repeat(30)));
        assert_eq!(bar(5, 10), format!("[{}{}]  50 %", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(11, 10), format!("[{}] 100 %", "#".repeat(30)));
    }
}
