//! Host user ids of sandboxes.

use impuls_sandbox::host_ids::{COUNT, IdRange};

/// Where sandboxes' ids are from: one for each.
pub(crate) const RANGE: IdRange = IdRange { base: 0x7000_0000, parts: 2_048, step: 1 };

/// Whether a map of ids (user_namespaces(7): first id inside, first outside, how many) has the whole range.
pub(crate) fn are_mapped(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        first <= u64::from(RANGE.base)
            && u64::from(RANGE.base) + u64::from(RANGE.parts) * u64::from(COUNT) <= first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_maps_every_id_and_a_container_may_map_few() {
        assert!(are_mapped("         0          0 4294967295\n"));
        assert!(!are_mapped("         0     100000      65536\n"));
        assert!(!are_mapped(""));
    }
}
