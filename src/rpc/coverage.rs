//! The coverage table of the documentation, from the rows themselves.

use std::fmt::Write;

use super::table::GROUPS;
use crate::engine::api::Class;

/// The table as Markdown (`domusd --print-rpc-coverage`, `docs/RPC_COVERAGE.md`).
pub fn markdown() -> String {
    let mut out = String::from(
        "# RPC coverage\n\n\
         Generated from the tables in `src/rpc/table/` by `domusd --print-rpc-coverage`; a test keeps it current.\n\
         A procedure that is not served answers code 3 (`VIR_ERR_NO_SUPPORT`) with libvirt's function; a number that is no\n\
         procedure answers code 39 (`VIR_ERR_RPC`). Access `read` is open to read-only clients.\n\n\
         | group | served |\n| --- | --- |\n",
    );
    for group in &GROUPS {
        let served = group.rows.iter().filter(|row| row.run.is_some()).count();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {served} of {} |", group.heading, group.rows.len());
    }
    for group in &GROUPS {
        let _ = writeln!(out, "\n## {}\n\n| number | procedure | function | access | served |", group.heading);
        out.push_str("| --- | --- | --- | --- | --- |\n");
        for row in group.rows {
            let (access, served) = match (row.run, row.class) {
                (None, _) => ("", "no"),
                (Some(_), Class::Read) => ("read", "yes"),
                (Some(_), Class::Write) => ("write", "yes"),
            };
            let _ = writeln!(out, "| {} | {} | {} | {access} | {served} |", row.number, row.name, row.function);
        }
    }
    out
}
