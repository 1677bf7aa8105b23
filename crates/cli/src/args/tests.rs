use std::ffi::OsString;

use super::*;
use impuls_client::wire::AliasTarget;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    parse_from(line.split(' ').map(OsString::from))
}

fn serve(line: &str) -> ServeArgs {
    match parse(line).unwrap().command {
        Command::Serve(args) => *args,
        other => panic!("{line:?} is {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn impuls_server_takes_bare_flags_as_serve() {
    assert_eq!(serve("/usr/bin/impuls-server --port 9000").node.port, Some(9000));
    assert_eq!(serve("impuls-server").node.port, None);
    assert_eq!(serve("impuls-server serve --port 9000").node.port, Some(9000));
    let other = parse("impuls-server runtimes").unwrap().command;
    assert!(matches!(other, Command::Client(ClientCommand::Runtimes)));
    assert!(parse("impuls --port 9000").is_err());
}

#[test]
fn the_seeds_flags_are_accepted() {
    let args = serve(
        "impuls-server --port 8081 --data-dir /d --firecracker /f --kernel /k --rootfs /r --storage file --db-conn x",
    );
    assert_eq!(args.node.storage.as_deref(), Some("file"));
    assert_eq!(args.kernel, Some("/k".into()));
}

#[test]
fn listen_repeats_and_excludes_port() {
    assert_eq!(serve("impuls serve --listen 127.0.0.1:0 --listen [::1]:80").node.listen.len(), 2);
    assert!(parse("impuls serve --listen 127.0.0.1:0 --port 1").is_err());
}

#[test]
fn a_switch_takes_its_value_only_after_an_equals_sign() {
    assert_eq!(serve("impuls serve --local-mode").local_mode, Some(true));
    assert_eq!(serve("impuls serve --local-mode=false").local_mode, Some(false));
    assert!(parse("impuls serve --local-mode=perhaps").is_err());
}

#[test]
fn an_empty_path_is_read_and_means_none() {
    let args = serve("impuls serve --data-dir= --config=");
    assert_eq!(args.node.place.data_dir, Some("".into()));
    assert!(matches!(args.load().unwrap().data_dir, crate::DataDir::Default { .. }));
}

#[test]
fn global_flags_stand_before_or_after_the_subcommand() {
    for line in ["impuls --json --server http://h list", "impuls list --server http://h --json"] {
        let globals = parse(line).unwrap().globals;
        assert_eq!((globals.server.as_str(), globals.json), ("http://h", true));
    }
}

#[test]
fn the_spawner_is_hidden() {
    assert!(matches!(parse("impuls spawner").unwrap().command, Command::Spawner));
    assert!(!command().render_help().to_string().contains("spawner"));
}

fn check_alias(text: &str, expected: Option<&[(u64, u32)]>) {
    let targets = text.parse::<AliasSpec>().ok().map(|spec| spec.targets);
    let expected = expected.map(|pairs| {
        pairs.iter().map(|&(version, weight)| AliasTarget { version, weight }).collect::<Vec<_>>()
    });
    assert_eq!(targets, expected, "{text:?}");
}

#[test]
fn an_alias_is_one_version_or_several_with_weights() {
    check_alias("live=3", Some(&[(3, 100)]));
    check_alias("live=3:90,4:10", Some(&[(3, 90), (4, 10)]));
    for wrong in ["live", "=3", "live=", "live=x", "live=3,4", "live=3:90,", "live=3:-1"] {
        check_alias(wrong, None);
    }
}

#[test]
fn wrong_usage_ends_with_two_and_help_with_zero() {
    assert_eq!(parse("impuls invoke").unwrap_err().exit_code(), 2);
    assert_eq!(parse("impuls --help").unwrap_err().exit_code(), 0);
    assert!(command().render_help().to_string().contains("Exit codes: 0 success"));
}
