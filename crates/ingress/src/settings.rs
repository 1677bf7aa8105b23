//! Ranges that every dialect has under names of its own. The core checks them too, but names its own fields.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use impuls_domain::limits;

use crate::denial::{Denial, Situation};

fn check<T: PartialOrd + Debug>(field: &str, asked: T, range: &RangeInclusive<T>) -> Result<T, Denial> {
    if range.contains(&asked) {
        return Ok(asked);
    }
    let (min, max) = (range.start(), range.end());
    let text = format!("{field}: {asked:?} is not possible; {min:?} to {max:?} are allowed");
    Err(Denial::new(Situation::Invalid, text))
}

/// A function's timeout in milliseconds, or a refusal that names the dialect's field.
pub fn timeout_ms(field: &str, asked: Duration) -> Result<u64, Denial> {
    let [min, max] =
        [limits::TIMEOUT_MS.start(), limits::TIMEOUT_MS.end()].map(|ms| Duration::from_millis(*ms));
    let timeout = check(field, asked, &(min..=max))?;
    Ok(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// Memory of a sandbox in MiB, or a refusal that names the dialect's field. 0 is refused: a field that is absent gets
/// the dialect's default, and nothing else does.
pub fn memory_mib(field: &str, asked: u32) -> Result<u32, Denial> {
    check(field, asked, &limits::MEMORY_MIB)
}

/// A share of the processor in thousandths of a core, or a refusal that names the dialect's field.
pub fn milli_vcpu(field: &str, cores: f64) -> Result<u32, Denial> {
    let [min, max] =
        [limits::MILLI_VCPU.start(), limits::MILLI_VCPU.end()].map(|milli| f64::from(*milli) / 1_000.0);
    let milli = (check(field, cores, &(min..=max))? * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a range of u32")]
    Ok(milli as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Debug>(refused: Result<T, Denial>) -> String {
        refused.unwrap_err().message
    }

    #[test]
    fn a_refusal_has_the_dialects_field_and_what_was_asked_for() {
        let refused = text(timeout_ms("timeout", Duration::from_nanos(30)));
        assert_eq!(refused, "timeout: 30ns is not possible; 100ms to 3600s are allowed");
        let refused = text(memory_mib("memory_mb", 0));
        assert_eq!(refused, "memory_mb: 0 is not possible; 64 to 32768 are allowed");
        let refused = text(milli_vcpu("cpu_cores", -1.0));
        assert_eq!(refused, "cpu_cores: -1.0 is not possible; 0.05 to 64.0 are allowed");
        assert!(milli_vcpu("cpu_cores", f64::NAN).is_err());
    }

    #[test]
    fn what_is_within_a_range_is_taken() {
        assert_eq!(timeout_ms("timeout", Duration::from_millis(1_500)), Ok(1_500));
        assert_eq!(memory_mib("memory_mb", 64), Ok(64));
        assert_eq!(milli_vcpu("vcpu", 0.5), Ok(500));
    }
}
