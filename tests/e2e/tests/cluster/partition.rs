//! The network drops what two nodes send each other, and neither is told. Each node is in a network namespace of its own.

use impuls_e2e::host::descendants;
use impuls_e2e::{Fabric, Node};

use super::*;

/// Every sandbox has a name that its process shows and its calls return; a call may be told to hang, or to take as long as the first
/// attempt at it takes.
const NAMED: &str = "const id = 'sandbox-' + require('crypto').randomUUID().slice(0, 13); process.title = id; \
                     const pass = (ms) => new Promise((done) => setTimeout(done, ms)); \
                     exports.handler = async (event) => { if (event.hang) await pass(1e8); \
                     if (event.at && Date.now() - event.at < 10_000) await pass(event.first); return id; };";

/// A cluster with a machine for each of its parts.
struct Site {
    cluster: Cluster,
    _postgres: Postgres,
    fabric: Fabric,
    database: Node,
    front: Node,
    places: [Node; 2],
}

impl Site {
    /// Without any node yet. The calling thread is at the router from now on.
    fn new() -> Self {
        let mut fabric = Fabric::enter();
        let database = fabric.node();
        let options = PostgresOptions { everywhere: true, ..PostgresOptions::default() };
        let postgres = database.run(|| Postgres::start(options));
        let cluster = Cluster::on(postgres.url_at(&database.address().to_string(), &postgres.database()));
        let (front, places) = (fabric.node(), [fabric.node(), fabric.node()]);
        Self { cluster, _postgres: postgres, fabric, database, front, places }
    }

    async fn controller(&self) -> Arc<Server> {
        let (data, at) = (Data::new(), self.front.address());
        let launch = self.cluster.launch_on(self.front.launch(&data), ("controller", at), &data);
        Arc::new(launch.argument("--insecure-no-auth").start().await)
    }

    /// The worker of one of the two places, called after it.
    async fn worker(&self, place: usize) -> Server {
        let (data, node) = (Data::new(), &self.places[place]);
        let launch = self.cluster.launch_on(node.launch(&data), ("worker", node.address()), &data);
        launch.arguments(["--worker-id", &place.to_string()]).start().await
    }
}

/// Whether the sandbox of this name is one of the server's.
fn has_sandbox(server: &Server, name: &Value) -> bool {
    let name = name.as_str().expect("a name");
    descendants(server.pid()).iter().any(|process| process.command().contains(name))
}

/// A function whose calls this worker runs.
async fn function_at(controller: &Server, worker: &Server) -> String {
    for _ in 0..30 {
        let name = controller.node_with(NAMED, &json!({"timeout_sec": 300})).await;
        if has_sandbox(worker, &controller.call(&name, &json!({})).await) {
            return name;
        }
    }
    panic!("no function of thirty is at home in the worker")
}

/// Waits until calls of a function are run by this worker.
async fn runs_in(controller: &Server, worker: &Server, name: &str) {
    let here = async || {
        let reply = controller.invoke(name, &json!({})).await;
        (reply.status == 200 && has_sandbox(worker, &reply.result())).then_some(())
    };
    eventually("the worker has the calls that belong to it", SOON, here).await;
}

impl Cluster {
    /// What the database says to a question about all asynchronous calls.
    fn count(&self, what: &str) -> usize {
        self.sql(&format!("SELECT count(*) FROM impuls_async_invocations WHERE {what}"))
            .parse()
            .expect("a number")
    }
}

#[tokio::test]
#[ignore = "needs root, ip, postgres"]
async fn a_worker_that_a_controller_cannot_reach_is_left_out_until_it_can() {
    let site = Site::new();
    let workers = [site.worker(0).await, site.worker(1).await];
    let controller = site.controller().await;
    let (cut_off, other) =
        (function_at(&controller, &workers[0]).await, function_at(&controller, &workers[1]).await);
    let calling = tokio::spawn({
        let (controller, name) = (controller.clone(), cut_off.clone());
        async move { controller.invoke(&name, &json!({"hang": true})).await }
    });
    let runs = async || (site.cluster.load("0") > 0).then_some(());
    eventually("the call runs", SOON, runs).await;
    site.fabric.cut(&site.front, &site.places[0]);
    let mut jobs = Vec::new();
    for number in 0..40 {
        let name = if number % 2 == 0 { &cut_off } else { &other };
        jobs.push(submit(&controller, name, &json!({})).await);
    }
    // Long before its timeout: the connection is asked every 2 seconds whether it lives, and has 3 to say so.
    let reply = within("the caller is told", SOON, calling).await.expect("it does not panic");
    let message = reply.problem(502);
    assert!(message.contains("may have run"), "{message}");
    assert!(has_sandbox(&workers[1], &controller.call(&other, &json!({})).await));
    runs_in(&controller, &workers[1], &cut_off).await;
    for id in &jobs {
        let found = ended(&controller, id, TAKEN_OVER).await;
        assert_eq!((&found["status"], &found["attempts"]), (&json!("succeeded"), &json!(1)), "{found}");
    }
    assert_eq!(site.cluster.count("status = 'succeeded'"), jobs.len());
    site.fabric.heal(&site.front, &site.places[0]);
    runs_in(&controller, &workers[0], &cut_off).await;
    // Nor does the call go on that nobody waits for.
    let over = async || (site.cluster.load("0") == 0).then_some(());
    eventually("nothing runs in the worker", SOON, over).await;
}

#[tokio::test]
#[ignore = "needs root, ip, postgres"]
async fn a_worker_that_cannot_reach_the_database_overwrites_nothing_newer() {
    let site = Site::new();
    let (first, second) = (site.worker(0).await, site.worker(1).await);
    let controller = site.controller().await;
    first.expect_error("invocation records are lost");
    // At home in the first where both are, which has all to itself until the jobs run.
    let name = function_at(&controller, &first).await;
    assert!(second.stop().await.success());
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
    // First attempts end before anybody has taken over, and after.
    let mut jobs = Vec::new();
    for number in 0..6 {
        let first = if number % 2 == 0 { 15_000 } else { 40_000 };
        let event = json!({"at": u64::try_from(at).expect("a time"), "first": first});
        jobs.push(submit(&controller, &name, &event).await);
    }
    let all_run = async || (site.cluster.count("status = 'running'") == jobs.len()).then_some(());
    eventually("all jobs run", SOON, all_run).await;
    let second = site.worker(1).await;
    site.fabric.cut(&site.places[0], &site.database);
    let mut rows = Vec::new();
    for id in &jobs {
        let found = ended(&controller, id, TAKEN_OVER).await;
        assert_eq!((&found["status"], &found["attempts"]), (&json!("succeeded"), &json!(2)), "{found}");
        assert!(has_sandbox(&second, &found["result"]), "{found}");
        rows.push(found);
    }
    site.fabric.heal(&site.places[0], &site.database);
    eventually("the worker is heard of again", SOON, async || {
        (site.cluster.workers() == ["0", "1"]).then_some(())
    })
    .await;
    runs_in(&controller, &first, &name).await;
    // Nothing of the first attempts runs or waits any more.
    let none_left = async || (site.cluster.load("0") == 0).then_some(());
    eventually("the first attempts are over", SOON, none_left).await;
    for (id, before) in jobs.iter().zip(&rows) {
        let now = controller.get(&format!("/api/v1/invocations/{id}")).await.with_status(200).json();
        assert_eq!(now, *before);
    }
    let id = submit(&controller, &name, &json!({})).await;
    assert_eq!(ended(&controller, &id, SOON).await["status"], "succeeded");
}
