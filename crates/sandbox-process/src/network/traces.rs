//! What the network of a server leaves on the machine, and its removal, by that server or by the next.
//!
//! Forwarding stays switched on while any server needs it: one that finds it switched on by another notes it
//! too, and only the last one switches it off.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use super::rules::{Names, TABLE_PREFIX};
use super::{claim, link, nft, rules};

/// The file in a server's folder that lists the links on which forwarding was off before.
const NOTE: &str = "forwarding.json";

/// The tables of the machine.
fn tables() -> io::Result<Vec<String>> {
    nft::tables(|question| nft::ask(&question.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()))
}

/// Keeps other servers from looking and changing at the same time, as long as it is held: a name that only one socket of
/// this machine's network can have. One that hangs is waited for no longer than two seconds.
pub(super) fn exclusively() -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name("impuls-forwarding")?;
    let mut tries = 400;
    loop {
        match UnixDatagram::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            bound => return bound,
        }
    }
}

fn others(own: Option<&Names>) -> io::Result<bool> {
    let is_other =
        |table: &String| table.starts_with(TABLE_PREFIX) && own.is_none_or(|own| own.table != *table);
    Ok(tables()?.iter().any(is_other))
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
    if !folder.join(NOTE).exists() {
        return Ok(());
    }
    let _alone = exclusively()?;
    switch_off(folder)
}

fn switch_off(folder: &Path) -> io::Result<()> {
    let Ok(text) = fs::read(folder.join(NOTE)) else { return Ok(()) };
    // A server that was killed while it wrote had changed nothing yet.
    let links: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
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
    let _alone = exclusively()?;
    if tables()?.contains(&names.table) {
        nft::run(&rules::remove(&names.table))?;
    }
    switch_off(folder)
}

/// Removes the links and tables of servers that are dead: those whose claim nobody has, or only the server whose table is
/// `own`. Process ids would not do, since a server in another container may share this machine's network. Whoever may not
/// see tables has made none; a table that stays is told, and keeps no server from starting.
pub(crate) fn reap(own: Option<&str>) {
    if nft::find("nft").is_none() || !rustix::process::geteuid().is_root() {
        return;
    }
    let claimed = own.and_then(Names::gateway_of);
    let is_dead = |table: &str| {
        let gateway = Names::gateway_of(table).filter(|_| Some(table) != own);
        gateway.is_some_and(|gateway| claimed == Some(gateway) || !claim::is_claimed(gateway))
    };
    for table in tables().unwrap_or_default().into_iter().filter(|table| is_dead(table)) {
        let links = link::remove_all(&Names::of_table(table.clone()).link);
        match links.and_then(|()| nft::run(&rules::remove(&table))) {
            Ok(()) => tracing::info!(%table, "removed the packet filter of a dead server"),
            Err(error) => tracing::warn!(%table, error = %error, "the packet filter of a dead server stays"),
        }
    }
}
