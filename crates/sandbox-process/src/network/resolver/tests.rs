use super::*;

/// A resolver whose own resolver answers what is asked for `a.example` alone, and the thread that it has.
async fn resolver() -> (Arc<Resolver>, tokio::task::JoinHandle<()>) {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            if asked.queries[0].name().to_ascii() == "a.example." {
                let mut answer = Message::response(asked.metadata.id, OpCode::Query);
                answer.add_query(asked.queries[0].clone());
                upstream.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    // Questions of sandboxes without a list never reach the packet filter.
    let filter = Hand::start("none", Ground::here).unwrap();
    let names = Names::of("1-1-1", Ipv4Addr::LOCALHOST);
    (Arc::new(Resolver::new(vec![address], Vec::new(), names, filter)), answering)
}

fn client(resolver: &Resolver, number: u32, function: &str) -> Arc<Client> {
    Arc::new(Client::new(number, NetworkPolicy::Egress, function, resolver.share(function)))
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    let name = hickory_proto::rr::Name::from_ascii(name).unwrap();
    message.add_query(Query::query(name, hickory_proto::rr::RecordType::A));
    message.to_vec().unwrap()
}

#[tokio::test]
async fn the_sandboxes_of_one_function_leave_the_resolver_to_others() {
    let (resolver, answering) = resolver().await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..16 {
        let client = client(&resolver, number, "greedy");
        for _ in 0..IN_FLIGHT {
            let (resolver, client) = (resolver.clone(), client.clone());
            asking.spawn(async move { resolver.answer(&client, &question("never.example."), None).await });
        }
    }
    // Those beyond half of all are turned away at once; the others wait for an answer that does not come.
    for _ in 0..16 * IN_FLIGHT - ALL_IN_FLIGHT / 2 {
        assert!(asking.join_next().await.unwrap().unwrap().is_none());
    }
    let other = client(&resolver, 99, "modest");
    assert!(resolver.answer(&other, &question("a.example."), None).await.is_some());
    let same = client(&resolver, 98, "greedy");
    assert!(resolver.answer(&same, &question("a.example."), None).await.is_none());
    answering.abort();
}

#[tokio::test]
async fn a_silent_connection_gives_way_when_all_are_taken() {
    let (resolver, answering) = resolver().await;
    let mut taken = Vec::new();
    for number in 0..STREAMS {
        let client =
            client(&resolver, u32::try_from(number).unwrap(), &format!("f{}", number / SHARE_STREAMS));
        taken.push(resolver.place(&client).await.unwrap());
    }
    let other = client(&resolver, 999, "other");
    assert!(resolver.place(&other).await.is_none(), "all of them are busy");
    let (silent, ended) = resolver.idle.enter();
    let ends = async {
        ended.await.unwrap();
        drop((silent, taken.pop()));
    };
    let (place, ()) = tokio::join!(resolver.place(&other), ends);
    assert!(place.is_some());
    answering.abort();
}
