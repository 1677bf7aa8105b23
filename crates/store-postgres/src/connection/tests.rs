use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Connection {
    text.parse().unwrap()
}

fn refused(text: &str) -> String {
    text.parse::<Connection>().unwrap_err().to_string()
}

#[test]
fn both_forms_name_the_same() {
    let url = parsed("postgres://me:pa%20ss%27@db.example:6543/impuls?sslmode=verify-full&connect_timeout=9");
    let pairs = parsed(
        r"host = db.example port=6543  user=me password='pa ss\'' dbname=impuls sslmode=verify-full connect_timeout=9",
    );
    for connection in [url, pairs] {
        assert_eq!(connection.place(), "db.example:6543, database \"impuls\"");
        assert_eq!(connection.options.get_username(), "me");
        assert_eq!(connection.timeout(), Duration::from_secs(9));
        assert!(matches!(connection.options.get_ssl_mode(), PgSslMode::VerifyFull));
        let url = connection.options.to_url_lossy();
        assert_eq!(url.password(), Some("pa%20ss%27"));
    }
}

#[test]
fn sockets_and_ipv6_addresses_are_places() {
    assert_eq!(parsed("postgres:///impuls?host=/run/pg").place(), "/run/pg (port 5432), database \"impuls\"");
    assert_eq!(parsed("postgres://u@[::1]:5433/d").options.get_host(), "::1");
    assert_eq!(parsed("postgres://u:p@ss@h/d").options.get_host(), "h");
}

#[test]
fn require_with_certificates_checks_them_as_libpq_does() {
    let mode = |text| parsed(text).options.get_ssl_mode();
    assert!(matches!(mode("host=h sslmode=require"), PgSslMode::Require));
    assert!(matches!(mode("host=h sslmode=require sslrootcert=/ca"), PgSslMode::VerifyCa));
    assert!(matches!(mode("host=h sslrootcert=system"), PgSslMode::VerifyFull));
    assert_eq!(parsed("host=h sslmode=allow").attempts().len(), 2);
    assert_eq!(parsed("host=h sslmode=prefer").attempts().len(), 1);
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    for (text, reason) in [
        ("mysql://u:hunter2@h/d", "begins with mysql://"),
        ("postgres://u:hunter2@h:99999/d", "port is not 1 to 65535"),
        ("postgres://u:hunter2@h/d?sslmod=x", "\"sslmod\", which is not known"),
        ("postgres://u:hunter2@h/d?sslmode=on", "sslmode is none of disable"),
        ("postgres://u:hunter2%@h/d", "hexadecimal"),
        ("host=a,b password=hunter2", "host is a list"),
        ("host=a password='hunter2", "quotation mark"),
        ("hunter2", "no `=`"),
        ("", "it is empty"),
        ("host=h sslcert=/c", "needs sslkey"),
        ("host=h connect_timeout=0", "1 to 60"),
        ("host=h hostaddr=x", "no IP address"),
    ] {
        let error = refused(text);
        assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
    }
    assert!(!format!("{:?}", parsed("postgres://u:hunter2@h/d")).contains("hunter2"));
}

proptest! {
    #[test]
    fn any_text_is_a_connection_or_is_refused(text in "(postgres://)?[a-z:@/?=&%'\\\\ \\[\\]é]{0,40}") {
        let _whatever = text.parse::<Connection>();
    }

    #[test]
    fn any_password_arrives(password in "\\PC{1,20}") {
        let quoted = password.replace('\\', r"\\").replace('\'', r"\'");
        let words = words::parse(&format!("host=h password='{quoted}'")).unwrap();
        prop_assert_eq!(words.get("password"), Some(&password));
    }
}
