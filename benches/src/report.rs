//! The table for people and the JSON for programs.

use std::fmt;
use std::io::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::machine::{Machine, Observation};

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Budget {
    /// A figure that could not be measured meets nothing.
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn verdict(self, value: f64) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        match self {
            Self::AtMost(limit) if value <= limit => {
                format!("met, {} to spare", percent(1.0 - value / limit))
            }
            Self::AtMost(limit) => format!("NOT met, {} over", percent(value / limit - 1.0)),
            Self::AtLeast(limit) if value >= limit => format!("met, {} above", percent(value / limit - 1.0)),
            Self::AtLeast(limit) => format!("NOT met, {} short", percent(1.0 - value / limit)),
        }
    }
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The number of the budget among those of the design; figures without a budget go with the one they explain.
    pub(crate) row: u8,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) budget: Option<Budget>,
    /// Where the figure comes from, in words.
    pub(crate) detail: String,
}

impl Figure {
    /// A figure that is only told.
    pub(crate) fn told(row: u8, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { row, what: what.into(), value, unit, budget: None, detail: String::new() }
    }

    pub(crate) fn within(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    pub(crate) fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    fn is_met(&self) -> Option<bool> {
        self.budget.map(|budget| budget.is_met(self.value))
    }
}

/// A number as the table has it: about three digits, thousands apart.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return "?".to_owned();
    }
    if magnitude >= 1_000.0 {
        return thousands(value);
    }
    let digits = if magnitude >= 100.0 {
        0
    } else if magnitude >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn thousands(value: f64) -> String {
    let text = format!("{value:.0}");
    let (sign, digits) = text.split_at(usize::from(text.starts_with('-')));
    let mut grouped = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.unit.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", number(self.value), self.unit)
    }
}

/// What one measurement gives.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<Figure>,
    /// Every single measurement, by whatever names suit it.
    pub(crate) samples: Value,
}

/// Under which conditions a run took place.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) machine: Machine,
    /// Names and versions of what was measured.
    pub(crate) programs: Vec<(String, String)>,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    /// Why the machine was too busy; empty unless the report was forced.
    pub(crate) complaints: Vec<String>,
    pub(crate) observations: Vec<Observation>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) conditions: Conditions,
    pub(crate) findings: Vec<Findings>,
}

impl Report {
    /// Writes the table.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}\n", self.table())?;
        for figure in self.figures().filter(|figure| !figure.detail.is_empty()) {
            writeln!(out, "{}: {}", figure.what, figure.detail)?;
        }
        writeln!(out, "\n{}", self.summary())?;
        for complaint in &self.conditions.complaints {
            writeln!(out, "FORCED although the machine was too busy: {complaint}")?;
        }
        Ok(())
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.findings.iter().flat_map(|findings| &findings.figures)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["row", "what", "measured", "budget", "verdict"]);
        for figure in self.figures() {
            let budget = match figure.budget {
                Some(Budget::AtMost(limit)) => format!("≤ {}", Figure { value: limit, ..figure.clone() }),
                Some(Budget::AtLeast(limit)) => format!("≥ {}", Figure { value: limit, ..figure.clone() }),
                None => String::new(),
            };
            let verdict = figure.budget.map(|budget| budget.verdict(figure.value)).unwrap_or_default();
            let measured = Cell::new(figure).set_alignment(CellAlignment::Right);
            let budget = Cell::new(budget).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(figure.row),
                Cell::new(&figure.what),
                measured,
                budget,
                Cell::new(verdict),
            ]);
        }
        table
    }

    fn summary(&self) -> String {
        let Conditions { machine, programs, rounds, quick, .. } = &self.conditions;
        let verdicts: Vec<bool> = self.figures().filter_map(Figure::is_met).collect();
        let met = verdicts.iter().filter(|met| **met).count();
        let programs: Vec<String> =
            programs.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let quick = if *quick { " (--quick: an order of magnitude, not a verdict)" } else { "" };
        format!(
            "{met} of {} budgets met; {rounds} rounds{quick}\n{machine}\n{}",
            verdicts.len(),
            programs.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_by_how_much() {
        for (budget, value, expected) in [
            (Budget::AtMost(10.0), 5.0, "met, 50 % to spare"),
            (Budget::AtMost(10.0), 10.0, "met, 0 % to spare"),
            (Budget::AtMost(10.0), 15.0, "NOT met, 50 % over"),
            (Budget::AtLeast(2.0), 3.0, "met, 50 % above"),
            (Budget::AtLeast(2.0), 1.5, "NOT met, 25 % short"),
        ] {
            assert_eq!(budget.verdict(value), expected);
            assert_eq!(budget.is_met(value), !expected.starts_with("NOT"));
        }
        assert!(!Budget::AtMost(1.0).is_met(f64::NAN) && !Budget::AtLeast(1.0).is_met(f64::NAN));
    }

    #[test]
    fn numbers_have_about_three_digits() {
        for (value, expected) in [
            (0.123, "0.12"),
            (1.5, "1.5"),
            (2.0, "2"),
            (12.34, "12.3"),
            (150.0, "150"),
            (20.0, "20"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
