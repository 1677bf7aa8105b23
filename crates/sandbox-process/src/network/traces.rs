//! What the network of a server leaves on the machine, and its removal, by that server or by the next.
//!
//! Forwarding stays switched on while any server needs it: one that finds it switched on by another notes it
//! too, and only the last one switches it off.

use std::fs;
use std::io;
use std::path::Path;

use super::rules::{Names, TABLE_PREFIX};
use super::{link, nft, rules};

/// The file in a server's folder that lists the links on which forwarding was off before.
const NOTE: &str = "forwarding.json";

fn others(own: Option<&Names>) -> io::Result<bool> {
    let is_other =
        |table: &String| table.starts_with(TABLE_PREFIX) && own.is_none_or(|own| own.table != *table);
    Ok(nft::tables()?.iter().any(is_other))
}

/// The links on which forwarding is off, or on only because another server of ours needs it.
pub(super) fn not_forwarding(links: &[String]) -> io::Result<Vec<String>> {
    if link::is_forwarding("all")? {
        return Ok(Vec::new());
    }
    let shared = others(None)?;
    let mut off = Vec::new();
    for name in links {
        if shared || !link::is_forwarding(name)? {
            off.push(name.clone());
        }
    }
    Ok(off)
}

/// Notes them, for whoever tidies up.
pub(super) fn note(folder: &Path, links: &[String]) -> io::Result<()> {
    fs::write(folder.join(NOTE), serde_json::to_vec(links)?)
}

/// Switches off what the note of a server's folder says; nothing if there is none, if somebody else has switched
/// forwarding on for the whole machine, or if another server needs it.
pub(crate) fn restore(folder: &Path) -> io::Result<()> {
    let Ok(text) = fs::read(folder.join(NOTE)) else { return Ok(()) };
    let links: Vec<String> = serde_json::from_slice(&text)?;
    if links.is_empty() || link::is_forwarding("all")? || others(None)? {
        return Ok(());
    }
    for name in &links {
        match link::reset_forwarding(name) {
            Ok(()) => tracing::info!(link = %name, "net.ipv4.conf.{name}.forwarding = 0 again"),
            Err(error) => tracing::warn!(link = %name, error = %error, "forwarding cannot be switched off"),
        }
    }
    Ok(())
}

/// Removes what a server has made, links first: no sandbox may outlive the rules.
pub(super) fn remove(names: &Names, folder: &Path) -> io::Result<()> {
    link::remove_all(&names.link)?;
    if nft::tables()?.contains(&names.table) {
        nft::run(&rules::remove(&names.table))?;
    }
    restore(folder)
}

/// Removes the links and tables of servers that are dead, as `is_dead` tells by their names.
pub(crate) fn reap(is_dead: impl Fn(&str) -> bool) -> io::Result<()> {
    if nft::find("nft").is_none() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for table in nft::tables()? {
        let Some(instance) = Names::instance_of(&table).filter(|instance| is_dead(instance)) else {
            continue;
        };
        link::remove_all(&Names::of(instance).link)?;
        nft::run(&rules::remove(&table))?;
        tracing::info!(%table, "removed the packet filter of a dead server");
    }
    Ok(())
}
