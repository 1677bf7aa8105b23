//! What functions reach, and who sees what they were refused: with root and as an ordinary user, by the same facts.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests, which end by panicking")]

use std::net::TcpListener;
use std::time::Duration;

use impuls_e2e::functions::{merged, path};
use impuls_e2e::host::processes_with;
use impuls_e2e::{Data, Machine, Server, Value, eventually, json};

/// Users and groups that nobody has, one for each test: each looks what is left of its own.
const USERS: [u32; 3] = [54_323, 54_324, 54_325];
/// How long refused packets may take until they are counted.
const COUNTED: Duration = Duration::from_secs(30);

/// Fetches each of the event's addresses, and says what it got, or what kind of failure it was.
const FETCH: &str = "
import socket, urllib.error, urllib.request
def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except urllib.error.URLError as error:
        reason = error.reason
        return 'no such name' if isinstance(reason, socket.gaierror) else type(reason).__name__
def handler(event, context):
    return [fetch(url) for url in event]
";

const REFUSED: &str = "ConnectionRefusedError";

async fn start(machine: &Machine, data: &Data, user: Option<u32>) -> Server {
    start_with(machine, data, (user, &[])).await
}

/// The same with further arguments.
async fn start_with(machine: &Machine, data: &Data, (user, more): (Option<u32>, &[&str])) -> Server {
    let launch = machine.launch(data, user);
    let launch = launch.arguments(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).argument(data.folder());
    more.iter().fold(launch, |launch, argument| launch.argument(*argument)).start().await
}

async fn deploy(server: &Server, network: Value) -> String {
    server.python_with(FETCH, &merged(json!({"network": network}), &json!({"timeout_sec": 60}))).await
}

/// What the addresses of a function's own event come to.
async fn check(server: &Server, name: &str, expected: &[(&str, &str)]) {
    let event: Vec<&str> = expected.iter().map(|(url, _)| *url).collect();
    let results: Vec<&str> = expected.iter().map(|(_, result)| *result).collect();
    assert_eq!(server.call(name, &json!(event)).await, json!(results));
}

async fn refused(server: &Server, name: &str) -> Value {
    server.get(&format!("{}/sandboxes", path(name))).await.with_status(200).json()["refused"].clone()
}

async fn reaches_what_its_policy_says(user: Option<u32>, more: &[&str]) {
    let (machine, data) = (Machine::enter(), Data::new());
    // The machine's own, on all of its addresses; whoever is let through is accepted by the kernel.
    let own = TcpListener::bind("0.0.0.0:0").expect("some port is free");
    let port = own.local_addr().expect("it is bound").port();
    let host = |address: &str| format!("http://{address}:{port}/");
    let server = start_with(&machine, &data, (user, more)).await;
    let control = server.url("/health");
    let hello = format!("hello {}", Machine::ADDRESS);

    let free = deploy(&server, json!("egress")).await;
    let refusals: Vec<String> = [
        host(Machine::ADDRESS),
        host("[::ffff:203.0.113.1]"),
        "http://10.77.0.1:8080/".into(),
        "http://169.254.169.254:8080/".into(),
        "http://[::ffff:169.254.169.254]:8080/".into(),
    ]
    .into();
    let mut expected =
        vec![("http://203.0.113.2:8080/", hello.as_str()), ("http://www.example:8080/", &hello)];
    expected.extend(refusals.iter().map(|url| (url.as_str(), REFUSED)));
    // A sandbox's loopback is its own.
    let loopback = host("127.0.0.1");
    expected.extend([
        (loopback.as_str(), REFUSED),
        (&control, REFUSED),
        ("http://inside.example:8080/", "no such name"),
    ]);
    check(&server, &free, &expected).await;

    let listed = deploy(&server, json!({"allow": ["www.example:8080"]})).await;
    let expected = [
        ("http://www.example:8080/", hello.as_str()),
        ("http://203.0.113.3:8080/", REFUSED),
        ("http://elsewhere.example:8080/", "no such name"),
    ];
    check(&server, &listed, &expected).await;

    let all = async || (refused(&server, &free).await["packets"] == refusals.len()).then_some(());
    eventually("refused packets are counted", COUNTED, all).await;
    assert_eq!(refused(&server, &free).await["lookups"], 1);
    let all = async || (refused(&server, &listed).await["packets"] == 1).then_some(());
    eventually("refused packets are counted", COUNTED, all).await;
    let listing = server.get(&format!("{}/sandboxes", path(&listed))).await.json();
    assert_eq!(listing["count"], 1, "{listing}");
    assert_eq!(listing["items"][0]["refused"]["packets"], 1, "{listing}");
    let told = async || {
        let log = server.log();
        let lines = log.lines().filter(|line| line.contains("the network policy of a function refused"));
        lines.clone().any(|line| line.contains(&listed)).then(|| lines.count())
    };
    assert!(eventually("refusals are in the log", COUNTED, told).await <= 2, "{}", server.log());

    let off = deploy(&server, json!("off")).await;
    check(
        &server,
        &off,
        &[("http://203.0.113.2:8080/", "OSError"), ("http://www.example:8080/", "no such name")],
    )
    .await;
    assert_eq!(refused(&server, &off).await, json!({"packets": 0, "lookups": 0}));
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs root, python, ip"]
async fn a_function_reaches_what_its_policy_says() {
    reaches_what_its_policy_says(None, &[]).await;
}

#[tokio::test]
#[ignore = "needs root, python, ip, crun"]
async fn a_function_in_a_container_reaches_the_same() {
    reaches_what_its_policy_says(None, &["--driver", "container", "--oci-runtime", "crun"]).await;
}

#[tokio::test]
#[ignore = "needs root, python, ip, pasta"]
async fn an_ordinary_users_functions_reach_what_their_policies_say() {
    reaches_what_its_policy_says(Some(USERS[0]), &[]).await;
    let left: Vec<_> = processes_with("pasta").into_iter().filter(|it| it.uid() == Some(USERS[0])).collect();
    assert_eq!(left, []);
}

#[tokio::test]
#[ignore = "needs root, python, ip, pasta"]
async fn what_was_refused_is_known_when_its_sandbox_is_gone() {
    let (machine, data, user) = (Machine::enter(), Data::new(), USERS[1]);
    let server = start(&machine, &data, Some(user)).await;
    let name = deploy(&server, json!("egress")).await;
    check(&server, &name, &[("http://10.77.0.1:8080/", REFUSED)]).await;
    let pasta = || processes_with("pasta").into_iter().find(|it| it.uid() == Some(user));
    assert!(pasta().is_some());
    // The old sandboxes go, with the processes that were their ways out.
    server.update(&name, &json!({"network": "off"})).await;
    let gone = async || pasta().is_none().then_some(());
    eventually("the way out is gone", COUNTED, gone).await;
    let counted = async || (refused(&server, &name).await["packets"] == 1).then_some(());
    eventually("it was counted", COUNTED, counted).await;
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs root, python, ip, pasta"]
async fn without_pasta_an_ordinary_users_functions_have_no_network_and_doctor_says_why() {
    let (machine, data, user) = (Machine::enter(), Data::new(), USERS[2]);
    let server = start(&machine, &data, Some(user)).await;
    assert_eq!(machine.doctor(&data, user)["detail"], "pasta and nftables");
    server.stop().await;
    machine.run(&["chmod", "600", "/dev/net/tun"]).success();
    let closed = machine.doctor(&data, user);
    assert!(closed["detail"].as_str().is_some_and(|text| text.contains("/dev/net/tun")), "{closed}");
    machine.run(&["mount", "--bind", "/dev/null", "/usr/bin/pasta"]).success();
    let absent = machine.doctor(&data, user);
    assert!(
        absent["detail"].as_str().is_some_and(|text| text.contains("pasta is not installed")),
        "{absent}"
    );
    assert!(absent["fix"].as_str().is_some_and(|text| text.contains("passt")), "{absent}");

    let server = start(&machine, &data, Some(user)).await;
    let name = deploy(&server, json!("egress")).await;
    let refused = server.invoke(&name, &json!([])).await.with_status(501).json();
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("impuls doctor")), "{refused}");
    server.update(&name, &json!({"network": "off"})).await;
    check(&server, &name, &[("http://203.0.113.2:8080/", "OSError")]).await;
    server.stop().await;
}
