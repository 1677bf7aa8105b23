//! What a network costs a sandbox, said and not judged.

use std::time::{Duration, Instant};

use crate::block_on;
use crate::world::{Guest, Machine};

/// Sandboxes that come and go, one after the other and at once.
pub fn cost() {
    const ROUNDS: usize = 20;
    block_on(async {
        let machine = Machine::new(&[]).await;
        drop(machine.guest("egress").await);
        for policy in ["off", "egress", "allow www.example 10.0.0.0/8:443"] {
            let (mut assigns, mut destroys) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let sandbox = Guest::sandbox(machine.sandboxes()).await;
                let begun = Instant::now();
                let guest = Guest::assign(sandbox, machine.folder.path(), policy).await;
                assigns.push(begun.elapsed());
                let begun = Instant::now();
                guest.sandbox.destroy().await.unwrap();
                destroys.push(begun.elapsed());
            }
            assigns.sort();
            destroys.sort();
            let (assign, destroy) = (assigns[ROUNDS / 2], destroys[ROUNDS / 2]);
            println!(
                "  {policy:35} assign {assign:>9.3?}, p90 {:>9.3?}; destroy {destroy:>9.3?}",
                assigns[ROUNDS * 9 / 10]
            );
            assert!(assign < Duration::from_secs(1), "{policy}: {assign:?}");
        }
        let mut guests = Vec::new();
        for _ in 0..ROUNDS {
            guests.push(machine.guest("egress").await);
        }
        let begun = Instant::now();
        let all: Vec<_> = guests
            .iter()
            .map(|guest| {
                let sandbox = guest.sandbox.clone();
                tokio::spawn(async move { sandbox.destroy().await.unwrap() })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
        println!("  {ROUNDS} at once are gone after {:.3?}", begun.elapsed());
        machine.end().await;
    });
}
