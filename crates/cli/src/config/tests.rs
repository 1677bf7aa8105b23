use std::error::Error as _;

use super::*;
use crate::args::PlaceArgs;

fn file(text: &str) -> FileConfig {
    toml::from_str(text).unwrap()
}

fn resolved(file: FileConfig, args: ServeArgs) -> ServeConfig {
    resolve(file, &Variables::default(), args).unwrap()
}

fn listens(text: &str, args: ServeArgs) -> String {
    match resolve(file(text), &Variables::default(), args) {
        Ok(config) => config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn nothing_given_means_loopback_sqlite_and_the_strongest_isolation() {
    let config = resolved(FileConfig::default(), ServeArgs::default());
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
    let args = ServeArgs {
        prewarm: Some(0),
        ..ServeArgs::from(NodeArgs { storage: Some("postgres".into()), ..NodeArgs::default() })
    };
    let config = resolved(file(text), args);
    assert_eq!((config.storage.as_str(), config.driver.as_str()), ("postgres", "microvm"));
    assert_eq!((config.prewarm, config.shutdown_timeout), (Some(0), Duration::from_secs(90)));
    assert_eq!(config.data_dir, DataDir::Given("/f".into()));
}

#[test]
fn a_switch_of_the_file_can_be_turned_off_by_a_flag() {
    let args = ServeArgs { allow_weaker_isolation: Some(false), ..ServeArgs::default() };
    assert!(!resolved(file("allow_weaker_isolation = true"), args).allow_weaker_isolation);
}

#[test]
fn an_empty_text_is_as_good_as_none() {
    let args = ServeArgs::from(NodeArgs {
        storage: Some(String::new()),
        place: PlaceArgs { data_dir: Some(PathBuf::new()), ..PlaceArgs::default() },
        ..NodeArgs::default()
    });
    let config = resolved(file("data_dir = '/f'"), args);
    assert_eq!((config.storage.as_str(), config.data_dir), ("sqlite", DataDir::Given("/f".into())));
}

#[test]
fn addresses_of_a_higher_level_replace_those_of_a_lower() {
    let port = || ServeArgs::from(NodeArgs { port: Some(9), ..NodeArgs::default() });
    let listen =
        || ServeArgs::from(NodeArgs { listen: vec!["[::1]:7".parse().unwrap()], ..NodeArgs::default() });
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
    let config = resolved(file("rootfs = '/r'"), args);
    assert_eq!(config.without_effect, ["local_mode", "kernel", "rootfs"]);
}

#[test]
fn a_wrong_file_names_line_and_key() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("impuls.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = ServeArgs::from(NodeArgs {
            place: PlaceArgs { config: Some(path.clone()), ..PlaceArgs::default() },
            ..NodeArgs::default()
        })
        .load()
        .unwrap_err();
        error.source().unwrap().to_string()
    };
    let unknown = load("port = 1\nlissten = ['127.0.0.1:1']");
    assert!(unknown.contains("lissten") && unknown.contains("line 2"), "{unknown}");
    assert!(load("listen = ['nowhere']").contains("is not an address with a port"));
    assert!(load("shutdown_timeout = 'soon'").contains("is not a time span"));
    let absent = ServeArgs::from(NodeArgs {
        place: PlaceArgs { config: Some("/nonexistent".into()), ..PlaceArgs::default() },
        ..NodeArgs::default()
    })
    .load();
    assert!(absent.unwrap_err().to_string().contains("/nonexistent"));
}

#[test]
fn the_further_port_is_wanted_only_when_no_address_is_given() {
    let further = |args| resolved(FileConfig::default(), args).listen_if_free;
    let home = || NodeArgs {
        place: PlaceArgs { home: Some("/home/a".into()), ..PlaceArgs::default() },
        ..NodeArgs::default()
    };
    assert_eq!(further(home().into()), ["127.0.0.1:18080".parse().unwrap()]);
    assert_eq!(further(NodeArgs { port: Some(8080), ..home() }.into()), []);
    assert_eq!(further(NodeArgs { listen: vec!["127.0.0.1:1".parse().unwrap()], ..home() }.into()), []);
}

/// What variables and arguments come to.
fn told(variables: &[(&str, &str)], args: ServeArgs) -> Result<ServeConfig, String> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: Variables = variables.iter().map(owned).collect();
    let file = file("port = 3\ndata_dir = '/file'\nlog_level = 'error'\nprewarm = 9");
    resolve(file, &variables, args).map_err(|error| error.to_string())
}

fn told_to_listen(variables: &[(&str, &str)], args: ServeArgs) -> String {
    match told(variables, args) {
        Ok(config) => config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error,
    }
}

#[test]
fn the_addresses_of_earlier_servers_are_taken() {
    let check = |variables: &[(&str, &str)], expected: &str| {
        assert_eq!(told_to_listen(variables, ServeArgs::default()), expected, "{variables:?}");
    };
    check(&[], "127.0.0.1:3");
    check(&[("SERVER_ADDR", "")], "127.0.0.1:3");
    check(&[("SERVER_ADDR", ":8081")], "127.0.0.1:8081");
    check(&[("SERVER_ADDR", "localhost:8081"), ("MANAGER_BIND", "[::1]:5")], "127.0.0.1:8081 [::1]:5");
    check(&[("SERVER_ADDR", ":5"), ("MANAGER_BIND", "127.0.0.1:5")], "127.0.0.1:5");
    check(&[("FAAS_API_PORT", "8090")], "127.0.0.1:8090");
    check(&[("FAAS_API_HOST", "127.0.0.2")], "127.0.0.2:8080");
    check(&[("IMPULS_API_PORT", "8091"), ("SERVER_ADDR", ":1")], "127.0.0.1:8091");
    check(&[("IMPULS_PORT", "8092"), ("IMPULS_API_PORT", "1")], "127.0.0.1:8092");
    check(&[("IMPULS_LISTEN", "127.0.0.1:1,[::1]:2"), ("IMPULS_PORT", "7")], "127.0.0.1:1 [::1]:2");
}

#[test]
fn a_port_without_a_host_is_every_address_only_where_that_is_allowed() {
    let notices = |args| told(&[("SERVER_ADDR", ":8081")], args).unwrap().notices.join("\n");
    assert!(notices(ServeArgs::default()).contains("SERVER_ADDR names no host"));
    let open = || ServeArgs::from(NodeArgs { insecure_no_auth: Some(true), ..NodeArgs::default() });
    assert_eq!(notices(open()), "");
    assert_eq!(told_to_listen(&[("SERVER_ADDR", ":8081")], open()), "0.0.0.0:8081");
    let exposed = told_to_listen(&[("MANAGER_BIND", "0.0.0.0:18080")], ServeArgs::default());
    assert!(exposed.contains("--insecure-no-auth"), "{exposed}");
}

#[test]
fn a_flag_beats_variables_and_they_beat_the_file() {
    let flags = ServeArgs {
        prewarm: Some(1),
        ..ServeArgs::from(NodeArgs {
            port: Some(9),
            log_level: Some("warn".into()),
            place: PlaceArgs { data_dir: Some("/flag".into()), ..PlaceArgs::default() },
            ..NodeArgs::default()
        })
    };
    let variables = [
        ("SERVER_ADDR", "not looked at"),
        ("DATA_DIR", "/variable"),
        ("STORAGE_BASE_DIR", "/code"),
        ("RUST_LOG", "debug"),
        ("FAAS_WARM_POOL_SIZE", "4"),
    ];
    let config = told(&variables, flags).unwrap();
    assert_eq!((config.data_dir, config.log_level.as_str()), (DataDir::Given("/flag".into()), "warn"));
    assert_eq!((config.listen, config.prewarm), (local(9), Some(1)));
    let config = told(&variables[1..], ServeArgs::default()).unwrap();
    assert_eq!((config.data_dir, config.log_level.as_str()), (DataDir::Given("/variable".into()), "debug"));
    assert_eq!((config.listen, config.prewarm), (local(3), Some(4)));
    assert_eq!(config.artifacts, ArtifactsConfig::Folder("/code".into()));
    let config = told(&[("FAAS_DISABLE_PREWARM", "1")], ServeArgs::default()).unwrap();
    assert_eq!(config.prewarm, Some(0));
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    for name in ["SERVER_ADDR", "MANAGER_BIND", "IMPULS_PORT", "IMPULS_LISTEN", "FAAS_API_PORT"] {
        let refused = told_to_listen(&[(name, "nowhere")], ServeArgs::default());
        assert!(refused.starts_with(name), "{refused}");
    }
    let refused = told(&[("FAAS_WARM_POOL_SIZE", "many")], ServeArgs::default()).unwrap_err();
    assert!(refused.starts_with("FAAS_WARM_POOL_SIZE"), "{refused}");
}

#[test]
fn storage_of_one_machine_has_the_names_of_every_earlier_server() {
    for (name, storage, is_default) in
        [("file", "file", false), ("sqlite", "sqlite", false), ("local", "sqlite", true)]
    {
        let config = told(&[("STORAGE_TYPE", name)], ServeArgs::default()).unwrap();
        assert_eq!((config.storage.as_str(), config.storage_is_default), (storage, is_default));
        assert_eq!(config.notices.len(), usize::from(is_default));
    }
    let config = told(&[("STORAGE_TYPE", "postgres"), ("DB_CONN", "x")], ServeArgs::default()).unwrap();
    assert_eq!((config.storage.as_str(), config.database.connection.as_deref()), ("postgres", Some("x")));
    assert!(config.notices.is_empty());
}

#[test]
fn code_is_kept_where_the_settings_say() {
    let artifacts = |file_text: &str, variables: &[(&str, &str)], flag: Option<&str>| {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let artifacts = crate::ArtifactsArgs { artifacts: flag.map(str::to_owned) };
        let args = ServeArgs::from(NodeArgs {
            artifacts,
            place: PlaceArgs { data_dir: Some("/d".into()), ..PlaceArgs::default() },
            ..NodeArgs::default()
        });
        resolve(file(file_text), &variables, args).map(|config| config.artifacts)
    };
    let keys = [("AWS_SECRET_ACCESS_KEY", "open sesame"), ("STORAGE_BASE_DIR", "/lower")];
    assert_eq!(artifacts("", &[], None).unwrap(), ArtifactsConfig::InDataDir);
    assert_eq!(artifacts("", &keys, None).unwrap(), ArtifactsConfig::Folder("/lower".into()));
    assert_eq!(
        artifacts("artifacts = '/file'", &keys, None).unwrap(),
        ArtifactsConfig::Folder("/file".into())
    );
    let bucket = artifacts("artifacts = '/file'", &keys, Some("s3://b/p")).unwrap();
    assert!(!format!("{bucket:?}").contains("sesame"), "{bucket:?}");
    let ArtifactsConfig::Bucket(bucket) = bucket else { panic!("{bucket:?}") };
    assert_eq!(bucket.location, "s3://b/p");
    assert_eq!(bucket.variables.len(), 1);
    let refused = artifacts("", &[], Some("gs://me:secret@b")).unwrap_err().to_string();
    assert!(refused.contains("gs://") && !refused.contains("secret"), "{refused}");
    let storage = [("STORAGE_TYPE", "s3"), ("STORAGE_BASE_DIR", "/lower")];
    let refused = artifacts("", &storage, None).unwrap_err().to_string();
    assert!(refused.contains("IMPULS_ARTIFACTS"), "{refused}");
    assert!(artifacts("", &storage, Some("s3://b")).is_ok());
}

#[test]
fn a_database_is_known_by_the_names_of_every_earlier_server() {
    let connection = |set: &[(&str, &str)]| {
        let args = ServeArgs::from(NodeArgs { storage: Some("postgresql".into()), ..NodeArgs::default() });
        let config = told(set, args).unwrap();
        assert_eq!(config.storage, "postgres");
        config.database.connection.unwrap()
    };
    assert_eq!(connection(&[("DATABASE_URL", "postgres://a"), ("DB_HOST", "b")]), "postgres://a");
    assert_eq!(connection(&[("DB_DSN", "postgres://a"), ("DB_CONN", "host=b")]), "host=b");
    assert_eq!(
        connection(&[("DB_HOST", "db"), ("DB_PASSWORD", r"it's \")]),
        r"host='db' port='5432' user='postgres' password='it\'s \\' dbname='faas' sslmode='disable'"
    );
    let args = ServeArgs::from(NodeArgs { db_conn: Some("flag".into()), ..NodeArgs::default() });
    let config = told(&[("DB_HOST", "db")], args).unwrap();
    assert_eq!(config.database.connection.as_deref(), Some("flag"));
}

#[test]
fn a_database_that_is_not_asked_for_is_named_and_not_shown() {
    let config = told(&[("DB_PASSWORD", "hunter2"), ("DB_HOST", "db")], ServeArgs::default()).unwrap();
    assert_eq!(config.storage, "sqlite");
    assert!(config.notices.len() == 1 && config.notices[0].starts_with("DB_HOST, DB_PASSWORD: "));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn variables_without_effect_are_named_but_never_their_values() {
    let set = [
        ("RATE_LIMIT_MAX", "100"),
        ("WORKER_USE_CONTAINER", "true"),
        ("MANAGER_BRIDGE", "fcbr0"),
        ("MANAGER_BIND", "127.0.0.1:1"),
        ("FAAS_API_KEY", "secret"),
        ("FAAS_BASE_URL", "http://localhost:8080"),
        ("PATH", "/bin"),
        ("JWT_SECRET", ""),
    ];
    let notices = told(&set, ServeArgs::default()).unwrap().notices;
    let names = "FAAS_API_KEY, MANAGER_BRIDGE, RATE_LIMIT_MAX, WORKER_USE_CONTAINER;";
    assert!(
        notices.len() == 1 && notices[0].contains(names) && !notices[0].contains("secret"),
        "{notices:?}"
    );
    let variables: Variables = [("DB_PASSWORD".to_owned(), "secret".to_owned())].into_iter().collect();
    assert_eq!(format!("{variables:?}"), "{\"DB_PASSWORD\"}");
}

#[test]
fn builds_are_told_by_a_table_and_by_flags() {
    let text = "[build]\nenvironment = { A = 'file', B = 'file' }\nallow = ['a.example']\nmemory = 512\ntimeout = '5m'";
    let args = ServeArgs {
        build_env: vec![("B".into(), "flag".into())],
        build_memory: Some(1024),
        ..ServeArgs::default()
    };
    let builds = resolved(file(text), args).builds;
    let variables: Vec<_> = builds.environment.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(variables, [("A", "file"), ("B", "flag")]);
    assert_eq!((builds.allow, builds.memory_mib), (vec!["a.example".to_owned()], Some(1024)));
    assert_eq!(builds.timeout, Some(Duration::from_secs(300)));
    let args = ServeArgs { build_allow: vec![String::new(), "b.example".into()], ..ServeArgs::default() };
    assert_eq!(resolved(file(text), args).builds.allow, ["b.example"]);
    assert_eq!(resolved(FileConfig::default(), ServeArgs::default()).builds, BuildConfig::default());
}

#[test]
fn the_default_network_is_a_word() {
    let config =
        resolved(file("default_network = 'off'\nnetwork_allow = ['10.0.0.0/8']"), ServeArgs::default());
    assert_eq!(config.default_network, Some(DefaultNetwork::Off));
    assert_eq!(config.network_allow, ["10.0.0.0/8"]);
    assert_eq!(resolved(FileConfig::default(), ServeArgs::default()).default_network, None);
    assert!(toml::from_str::<FileConfig>("default_network = 'on'").is_err());
}
