use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(100);

fn number(n: u64) -> VersionNumber {
    VersionNumber::new(n).unwrap()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn instant(seconds: u64) -> OffsetDateTime {
    time(seconds).into()
}

proptest! {
    #[test]
    fn no_version_goes_that_anything_asks_to_keep(
        published in prop::collection::vec(0..1_000_u64, 0..40),
        aliased in prop::collection::btree_set(1..40_u64, 0..5),
        keep in 0..20_u32,
        before in 0..1_000_u64,
    ) {
        let count = published.len() as u64;
        let listed: Vec<_> =
            (1..=count).rev().zip(&published).map(|(n, at)| (number(n), instant(*at))).collect();
        let aliased = aliased.into_iter().map(number).collect();
        let newest = number(count.max(1));
        let gone = superfluous(&listed, (newest, &aliased), (keep, instant(before)));
        for (place, (version, at)) in listed.iter().enumerate() {
            let needed = place < keep as usize
                || *at >= instant(before)
                || *version == newest
                || aliased.contains(version);
            prop_assert_eq!(!needed, gone.contains(version), "{}", version);
        }
    }

    /// Deploys put artifacts, or find those of earlier names, and name them no later than the time of grace afterwards.
    #[test]
    fn no_artifact_goes_that_has_a_name_or_will_get_one(
        steps in prop::collection::vec((0..6_u8, 0..5_u8, 1..60_u64), 1..80),
    ) {
        let mut world = World::default();
        let mut sweep = Sweep::default();
        for (what, artifact, seconds) in steps {
            let digest = ArtifactDigest::from_bytes([artifact; 32]);
            match what {
                0 => world.put(digest),
                1 => world.reuse(digest),
                2 => drop(world.named.remove(&digest)),
                _ => {}
            }
            world.now += seconds;
            world.finish_deploys();
            let kept: Vec<_> = world.kept.iter().map(|(digest, at)| Kept { digest: *digest, bytes: 1, at: time(*at) }).collect();
            for gone in sweep.look(&kept, &world.named, (time(world.now), GRACE)) {
                prop_assert!(!world.named.contains(&gone.digest));
                prop_assert!(!world.deploying.contains_key(&gone.digest), "a deploy needs {}", gone.digest);
                world.kept.remove(&gone.digest);
            }
        }
    }
}

/// Artifacts, who names them, and deploys that will.
#[derive(Default)]
struct World {
    now: u64,
    kept: BTreeMap<ArtifactDigest, u64>,
    named: BTreeSet<ArtifactDigest>,
    deploying: BTreeMap<ArtifactDigest, u64>,
}

impl World {
    fn put(&mut self, digest: ArtifactDigest) {
        self.kept.insert(digest, self.now);
        self.deploying.insert(digest, self.now);
    }

    /// A rollback, or a build that is known.
    fn reuse(&mut self, digest: ArtifactDigest) {
        if self.named.contains(&digest) && self.kept.contains_key(&digest) {
            self.deploying.insert(digest, self.now);
        }
    }

    fn finish_deploys(&mut self) {
        let (now, named) = (self.now, &mut self.named);
        self.deploying.retain(|digest, since| {
            let is_over = now - *since >= 60;
            if is_over {
                named.insert(*digest);
            }
            !is_over
        });
    }
}

#[test]
fn what_has_no_name_goes_after_the_time_of_grace() {
    let digest = ArtifactDigest::from_bytes([1; 32]);
    let kept = [Kept { digest, bytes: 1, at: time(0) }];
    let (mut sweep, nothing) = (Sweep::default(), BTreeSet::new());
    let mut goes = |named: &BTreeSet<_>, at: u64| !sweep.look(&kept, named, (time(at), GRACE)).is_empty();
    assert!(!goes(&nothing, 1_000), "seen for the first time");
    assert!(!goes(&nothing, 1_099));
    assert!(goes(&nothing, 1_100));
    assert!(!goes(&BTreeSet::from([digest]), 1_200));
    assert!(!goes(&nothing, 1_300), "it had a name in between");
    assert!(!goes(&nothing, 1_000), "the clock was set back");
    assert!(goes(&nothing, 1_100));
}

#[test]
fn builds_beyond_the_bound_go_and_what_somebody_runs_counts_for_nothing() {
    let digest = |byte| ArtifactDigest::from_bytes([byte; 32]);
    let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let noted = |key, archive, seconds, is_deployed| NotedBuild {
        key: digest(key),
        archive: digest(archive),
        noted_at: at(seconds),
        is_deployed,
    };
    let builds = vec![
        noted(1, 1, 10, false),
        noted(2, 2, 20, true),
        noted(3, 3, 30, false),
        noted(4, 3, 40, false),
        noted(5, 5, 50, false),
    ];
    let kept: Vec<Kept> =
        (1..6).map(|byte| Kept { digest: digest(byte), bytes: 100, at: SystemTime::UNIX_EPOCH }).collect();
    let before = |limit| superfluous_builds(builds.clone(), &kept, limit);
    assert_eq!(before(300), None);
    assert_eq!(before(299), Some(at(10) + Duration::from_micros(1)));
    assert_eq!(before(199), Some(at(40) + Duration::from_micros(1)));
    assert_eq!(before(0), Some(at(50) + Duration::from_micros(1)));
    assert_eq!(superfluous_builds(Vec::new(), &kept, 0), None);
}
