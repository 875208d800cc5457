//! `<clock>` and its timers.

use super::words::{YesNo, attrs, words};
use crate::error::{Code, Result};
use crate::types::text::nearest;
use crate::xml::{Node, Writer};

/// `<clock>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clock {
    pub offset: ClockOffset,
    pub timers: Vec<Timer>,
}

/// `<clock offset>` with what belongs to it. Adjustments in seconds; `None` = `reset`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClockOffset {
    Utc { adjustment: Option<ClockAdjustment> },
    Localtime { adjustment: Option<ClockAdjustment> },
    Variable { adjustment: i64, basis: ClockBasis },
    Timezone { name: String },
    Absolute { start: u64 },
}

impl Default for ClockOffset {
    fn default() -> Self {
        ClockOffset::Utc { adjustment: None }
    }
}

/// `adjustment` of a utc or localtime clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAdjustment {
    Reset,
    Seconds(i64),
}

words! {
    /// `basis` of a variable clock.
    pub enum ClockBasis { Utc = "utc", Localtime = "localtime" }

    /// `<timer name>`.
    pub enum TimerName {
        Platform = "platform", Pit = "pit", Rtc = "rtc", Hpet = "hpet", Tsc = "tsc", Kvmclock = "kvmclock",
        Hypervclock = "hypervclock", Armvtimer = "armvtimer",
    }

    /// `<timer track>`.
    pub enum TimerTrack { Boot = "boot", Guest = "guest", Wall = "wall", Realtime = "realtime" }

    /// `<timer tickpolicy>`.
    pub enum TickPolicy { Delay = "delay", Catchup = "catchup", Merge = "merge", Discard = "discard" }

    /// `<timer mode>`.
    pub enum TimerMode { Auto = "auto", Native = "native", Emulate = "emulate", Paravirt = "paravirt", Smpsafe = "smpsafe" }
}

/// `<timer>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timer {
    pub name: TimerName,
    pub present: Option<YesNo>,
    pub tickpolicy: Option<TickPolicy>,
    pub track: Option<TimerTrack>,
    /// Hz.
    pub frequency: Option<u64>,
    pub mode: Option<TimerMode>,
    pub catchup: Option<Catchup>,
}

attrs! {
    /// `<catchup>`.
    pub struct Catchup {
        threshold: u32 = "threshold",
        slew: u32 = "slew",
        limit: u32 = "limit",
    }
}

const OFFSETS: &[&str] = &["utc", "localtime", "variable", "timezone", "absolute"];

impl Clock {
    /// Reads `<clock>`. Errors: codes 27 and 67.
    pub(crate) fn read(node: Node<'_>) -> Result<Self> {
        let offset = match node.attr("offset").unwrap_or("utc") {
            word @ ("utc" | "localtime") => {
                let adjustment = node.attr("adjustment");
                let adjustment = match adjustment {
                    None => None,
                    Some("reset") => Some(ClockAdjustment::Reset),
                    Some(_) => Some(ClockAdjustment::Seconds(read_adjustment(node)?)),
                };
                match (word, adjustment) {
                    // libvirt keeps a fixed adjustment as a variable clock.
                    ("utc", Some(ClockAdjustment::Seconds(adjustment))) => {
                        ClockOffset::Variable { adjustment, basis: ClockBasis::Utc }
                    }
                    (_, Some(ClockAdjustment::Seconds(adjustment))) => {
                        ClockOffset::Variable { adjustment, basis: ClockBasis::Localtime }
                    }
                    ("utc", adjustment) => ClockOffset::Utc { adjustment },
                    (_, adjustment) => ClockOffset::Localtime { adjustment },
                }
            }
            "variable" => ClockOffset::Variable {
                adjustment: if node.attr("adjustment").is_some() { read_adjustment(node)? } else { 0 },
                basis: node.attr_value("basis")?.unwrap_or_default(),
            },
            "timezone" => match node.attr("timezone") {
                Some(name) => ClockOffset::Timezone { name: name.to_string() },
                None => {
                    let what = "missing 'timezone' attribute for clock with offset='timezone'";
                    return Err(node.error(Code::InternalError, what));
                }
            },
            "absolute" => match node.attr_value("start")? {
                Some(start) => ClockOffset::Absolute { start },
                None => {
                    let what = "missing 'start' attribute for clock with offset='absolute'";
                    return Err(node.error(Code::InternalError, what));
                }
            },
            other => {
                let hint = nearest(other, OFFSETS.iter().copied());
                let hint = hint.map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
                let what = format!("unknown clock offset '{other}'{hint}");
                return Err(node.attr_error("offset", Code::ConfigUnsupported, what));
            }
        };
        let timers = node.children("timer").map(Timer::read).collect::<Result<_>>()?;
        Ok(Clock { offset, timers })
    }

    /// Writes it.
    pub(crate) fn write(&self, w: &mut Writer) {
        fn adjust(w: &mut Writer, word: &str, adjustment: &Option<ClockAdjustment>) {
            w.attr("offset", word);
            match adjustment {
                None => {}
                Some(ClockAdjustment::Reset) => w.attr("adjustment", "reset"),
                Some(ClockAdjustment::Seconds(seconds)) => w.attr("adjustment", seconds),
            }
        }
        w.element("clock", |w| {
            match &self.offset {
                ClockOffset::Utc { adjustment } => adjust(w, "utc", adjustment),
                ClockOffset::Localtime { adjustment } => adjust(w, "localtime", adjustment),
                ClockOffset::Variable { adjustment, basis } => {
                    w.attr("offset", "variable");
                    w.attr("adjustment", adjustment);
                    w.attr("basis", basis);
                }
                ClockOffset::Timezone { name } => {
                    w.attr("offset", "timezone");
                    w.attr("timezone", name);
                }
                ClockOffset::Absolute { start } => {
                    w.attr("offset", "absolute");
                    w.attr("start", start);
                }
            }
            for timer in &self.timers {
                timer.write(w);
            }
        });
    }
}

fn read_adjustment(node: Node<'_>) -> Result<i64> {
    let text = node.attr("adjustment").unwrap_or_default();
    crate::xml::parse_signed(text)
        .ok_or_else(|| node.attr_error("adjustment", Code::XmlError, format!("unknown clock adjustment '{text}'")))
}

impl Timer {
    fn read(node: Node<'_>) -> Result<Self> {
        Ok(Timer {
            name: node.require("name")?,
            present: node.attr_value("present")?,
            tickpolicy: node.attr_value("tickpolicy")?,
            track: node.attr_value("track")?,
            frequency: node.attr_value("frequency")?,
            mode: node.attr_value("mode")?,
            catchup: node.child("catchup").map(Catchup::read).transpose()?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("timer", |w| {
            w.attr("name", self.name);
            w.attr_opt("present", self.present);
            w.attr_opt("tickpolicy", self.tickpolicy);
            w.attr_opt("track", self.track);
            w.attr_opt("frequency", self.frequency);
            w.attr_opt("mode", self.mode);
            if let Some(catchup) = &self.catchup {
                catchup.write("catchup", w);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::testing::rewrite;
    use rstest::rstest;

    #[rstest]
    #[case(
        "<clock offset='utc'>\n  <timer name='pit' tickpolicy='delay'/>\n  <timer name='rtc' tickpolicy='catchup' track='guest'>\n    \
            <catchup threshold='123' slew='120' limit='10000'/>\n  </timer>\n  <timer name='hpet' present='no'/>\n  \
            <timer name='tsc' frequency='3504000000' mode='native'/>\n</clock>\n"
    )]
    #[case("<clock offset='localtime' adjustment='reset'/>\n")]
    #[case("<clock offset='variable' adjustment='-7' basis='localtime'/>\n")]
    #[case("<clock offset='timezone' timezone='Europe/Paris'/>\n")]
    #[case("<clock offset='absolute' start='1234567890'/>\n")]
    fn round_trips(#[case] xml: &str) {
        assert_eq!(rewrite(xml, Clock::read, Clock::write).expect("reads"), xml);
    }

    #[test]
    fn a_fixed_adjustment_makes_a_variable_clock() {
        let written = rewrite("<clock offset='utc' adjustment='5'/>", Clock::read, Clock::write).expect("reads");
        assert_eq!(written, "<clock offset='variable' adjustment='5' basis='utc'/>\n");
    }

    #[rstest]
    #[case("<clock offset='utcc'/>", "unknown clock offset 'utcc'; did you mean 'utc'?")]
    #[case("<clock offset='variable' adjustment='x'/>", "unknown clock adjustment 'x'")]
    #[case("<clock offset='timezone'/>", "missing 'timezone' attribute")]
    #[case("<clock><timer name='x'/></clock>", "attribute 'name' in element 'timer': 'x'.")]
    fn refused(#[case] xml: &str, #[case] expected: &str) {
        let error = rewrite(xml, Clock::read, |_, _| {}).expect_err("refused");
        assert!(error.detail.contains(expected), "{}", error.detail);
    }
}
