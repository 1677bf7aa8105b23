use std::error::Error as _;

use super::*;

fn file(text: &str) -> FileConfig {
    toml::from_str(text).unwrap()
}

fn listens(text: &str, args: ServeArgs) -> String {
    match resolve(file(text), args) {
        Ok(config) => config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn nothing_given_means_loopback_sqlite_and_the_strongest_isolation() {
    let config = resolve(FileConfig::default(), ServeArgs::default()).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!((config.storage.as_str(), config.driver.as_str()), ("sqlite", "auto"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!((config.max_sandboxes, config.prewarm), (None, None));
    assert!(!config.insecure_no_auth && !config.allow_weaker_isolation && config.without_effect.is_empty());
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let text =
        "storage = 'file'\ndriver = 'microvm'\nprewarm = 2\nshutdown_timeout = '1m30s'\ndata_dir = '/f'";
    let args = ServeArgs { storage: Some("postgres".into()), prewarm: Some(0), ..ServeArgs::default() };
    let config = resolve(file(text), args).unwrap();
    assert_eq!((config.storage.as_str(), config.driver.as_str()), ("postgres", "microvm"));
    assert_eq!((config.prewarm, config.shutdown_timeout), (Some(0), Duration::from_secs(90)));
    assert_eq!(config.data_dir, DataDir::Given("/f".into()));
}

#[test]
fn a_switch_of_the_file_can_be_turned_off_by_a_flag() {
    let args = ServeArgs { allow_weaker_isolation: Some(false), ..ServeArgs::default() };
    assert!(!resolve(file("allow_weaker_isolation = true"), args).unwrap().allow_weaker_isolation);
}

#[test]
fn an_empty_text_is_as_good_as_none() {
    let args =
        ServeArgs { storage: Some(String::new()), data_dir: Some(PathBuf::new()), ..ServeArgs::default() };
    let config = resolve(file("data_dir = '/f'"), args).unwrap();
    assert_eq!((config.storage.as_str(), config.data_dir), ("sqlite", DataDir::Given("/f".into())));
}

#[test]
fn addresses_of_a_higher_level_replace_those_of_a_lower() {
    let port = || ServeArgs { port: Some(9), ..ServeArgs::default() };
    let listen = || ServeArgs { listen: vec!["[::1]:7".parse().unwrap()], ..ServeArgs::default() };
    assert_eq!(listens("listen = ['127.0.0.1:1', 'localhost:2']", port()), "127.0.0.1:9");
    assert_eq!(
        listens("listen = ['127.0.0.1:1', 'localhost:2']", ServeArgs::default()),
        "127.0.0.1:1 127.0.0.1:2"
    );
    assert_eq!(listens("port = 3", listen()), "[::1]:7");
    assert_eq!(listens("port = 3", ServeArgs::default()), "127.0.0.1:3");
    assert!(listens("port = 3\nlisten = ['127.0.0.1:1']", ServeArgs::default()).contains("both"));
}

#[test]
fn an_exposed_address_needs_the_explicit_switch() {
    let refused = listens("listen = ['127.0.0.1:1', '0.0.0.0:2']", ServeArgs::default());
    assert!(refused.starts_with("0.0.0.0:2 can be reached from other machines"), "{refused}");
    assert!(refused.contains("--insecure-no-auth"));
    let allowed = listens("listen = ['0.0.0.0:2']\ninsecure_no_auth = true", ServeArgs::default());
    assert_eq!(allowed, "0.0.0.0:2");
}

#[test]
fn settings_without_effect_are_named() {
    let args = ServeArgs { local_mode: Some(true), kernel: Some("/k".into()), ..ServeArgs::default() };
    let config = resolve(file("rootfs = '/r'"), args).unwrap();
    assert_eq!(config.without_effect, ["local_mode", "kernel", "rootfs"]);
}

#[test]
fn a_wrong_file_names_line_and_key() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("impuls.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = ServeArgs { config: Some(path.clone()), ..ServeArgs::default() }.load().unwrap_err();
        error.source().unwrap().to_string()
    };
    let unknown = load("port = 1\nlissten = ['127.0.0.1:1']");
    assert!(unknown.contains("lissten") && unknown.contains("line 2"), "{unknown}");
    assert!(load("listen = ['nowhere']").contains("is not an address with a port"));
    assert!(load("shutdown_timeout = 'soon'").contains("is not a time span"));
    let absent = ServeArgs { config: Some("/nonexistent".into()), ..ServeArgs::default() }.load();
    assert!(absent.unwrap_err().to_string().contains("/nonexistent"));
}

#[test]
fn the_further_port_is_wanted_only_when_no_address_is_given() {
    let further = |args| resolve(FileConfig::default(), args).unwrap().listen_if_free;
    let home = || ServeArgs { home: Some("/home/a".into()), ..ServeArgs::default() };
    assert_eq!(further(home()), ["127.0.0.1:18080".parse().unwrap()]);
    assert_eq!(further(ServeArgs { port: Some(8080), ..home() }), []);
    assert_eq!(further(ServeArgs { listen: vec!["127.0.0.1:1".parse().unwrap()], ..home() }), []);
}
