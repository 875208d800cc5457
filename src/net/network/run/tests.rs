//! A network's life in a namespace of its own: made, broken from outside, healed, taken away.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use crate::error::{Code, Result};
use crate::net::Netlink;
use crate::net::address::AddressSpec;
use crate::net::bridge::{BridgeSpec, RouteSpec};
use crate::net::link::LinkChange;
use crate::sys::testing::in_netns_async;

#[derive(Default)]
struct Notes(Mutex<Vec<Step>>);

#[async_trait::async_trait]
impl Journal for Notes {
    async fn record(&self, steps: &[Step]) -> Result<()> {
        self.0.lock().unwrap().extend_from_slice(steps);
        Ok(())
    }
}

fn plan(dir: &Path, bridge: &str, address: &str) -> Plan {
    let dir = dir.join("run").join(bridge);
    let (conf, ready) = (dir.join("dnsmasq.conf"), dir.join("dnsmasq.pid"));
    let text = format!(
        "no-resolv\nno-hosts\npid-file={}\nexcept-interface=lo\nbind-dynamic\ninterface={bridge}\ndhcp-range={address},static\n\
         dhcp-leasefile={}\n",
        ready.display(),
        dir.join("leases").display()
    );
    let table = nft::TableName::new("inet", format!("domus_{bridge}"));
    Plan {
        name: bridge.into(),
        bridge: Some(BridgeSpec {
            name: bridge.into(),
            alias: format!("domus-network:{bridge}"),
            mac: "52:54:00:00:00:20".parse().unwrap(),
            stp: true,
            addresses: vec![AddressSpec::new(address, 24)],
            ..BridgeSpec::default()
        }),
        forward_ipv4: true,
        rules: format!(
            "table {table} {{\n chain forward {{\n type filter hook forward priority 0;\n iifname \"{bridge}\" counter accept\n }}\n}}\n"
        ),
        tables: vec![table],
        routes: vec![],
        server: Some(ServerSpec {
            network: bridge.into(),
            dir: dir.clone(),
            files: vec![(conf.clone(), text)],
            conf,
            ready,
            leases: None,
        }),
        dir,
        ..Plan::default()
    }
}

/// False, with a word on it, where the programs are missing.
fn programs(name: &str) -> Option<Programs> {
    let programs = Programs::default();
    match programs.nft().and(programs.dnsmasq()) {
        Ok(_) => Some(programs),
        Err(error) => {
            eprintln!("SKIP {name}: {error}");
            None
        }
    }
}

async fn nothing_left(plan: &Plan) {
    let bridge = &plan.bridge.as_ref().unwrap().name;
    assert_eq!(Netlink::open().unwrap().find(bridge).await.unwrap(), None);
    assert!(!plan.dir.exists());
    let tables = nft::tables().unwrap();
    assert!(plan.tables.iter().all(|table| !tables.contains(table)));
    assert!(server::running(&plan.server.as_ref().unwrap().pidfile()).is_none());
}

#[test]
fn a_network_heals_and_goes() {
    let Some(programs) = programs("a_network_heals_and_goes") else { return };
    in_netns_async("a_network_heals_and_goes", async || {
        let temp = tempfile::tempdir().unwrap();
        let plan = plan(temp.path(), "virbr0", "192.168.122.1");
        let notes = Notes::default();
        start(&plan, &programs, &notes).await.unwrap();
        assert_eq!(*notes.0.lock().unwrap(), plan.steps());
        let nft = programs.nft().unwrap();
        let netlink = Netlink::open().unwrap();
        netlink.add_veth("port", "guest").await.unwrap();
        let ports = ["port".to_string(), "long-gone".to_string()];
        let pidfile = plan.server.as_ref().unwrap().pidfile();
        let filter = tokio::sync::Mutex::new(Filter::open());
        let check =
            async || super::check(&plan, &Seen::now(&programs, &mut *filter.lock().await).await.unwrap(), &ports);
        let heal = async |problems: &[Problem]| super::heal(&plan, &programs, problems, &ports).await.unwrap();

        let bridge = "virbr0".to_string();
        let port = Problem::PortGone { bridge: bridge.clone(), port: "port".into() };
        assert_eq!(check().await, std::slice::from_ref(&port));
        heal(std::slice::from_ref(&port)).await;
        assert_eq!(check().await, []);

        // The firewall: flushed rules, everything flushed, docker's rules put before ours.
        let table = Problem::Table { table: plan.tables[0].clone() };
        for flush in ["flush table inet domus_virbr0", "flush ruleset"] {
            nft::apply(&nft, flush).await.unwrap();
            assert_eq!(check().await, std::slice::from_ref(&table), "{flush}");
            heal(std::slice::from_ref(&table)).await;
            assert_eq!(check().await, [], "{flush}");
        }
        let docker = "table ip filter {\n chain DOCKER-USER {\n }\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n jump DOCKER-USER\n }\n}\n";
        nft::apply(&nft, docker).await.unwrap();
        assert_eq!(check().await, [Problem::Docker { bridge: bridge.clone() }]);
        heal(&check().await).await;
        assert_eq!(check().await, []);
        nft::apply(&nft, "table ip other {\n chain f {\n type filter hook forward priority 5; policy drop;\n }\n}\n")
            .await
            .unwrap();
        let found = check().await;
        assert!(found.len() == 1 && found[0].to_string().contains("table 'ip other' chain 'f'"), "{found:?}");
        assert!(!found[0].can_heal());
        nft::apply(&nft, "delete table ip other").await.unwrap();

        // dnsmasq and the host's settings.
        let server = server::running(&pidfile).unwrap();
        server.kill(9).unwrap();
        server.wait().await.unwrap();
        assert_eq!(check().await, [Problem::ServerDead]);
        heal(&[Problem::ServerDead]).await;
        crate::net::bridge::sysctl("net/ipv4/ip_forward", "0").unwrap();
        let index = netlink.get("virbr0").await.unwrap().index;
        netlink.change(index, LinkChange { up: Some(false), ..LinkChange::default() }, "down").await.unwrap();
        let found = check().await;
        assert_eq!(found.len(), 2, "{found:?}");
        heal(&found).await;
        assert_eq!(check().await, []);

        // The bridge with everything on it.
        netlink.remove(index, "virbr0").await.unwrap();
        assert_eq!(check().await, [Problem::BridgeGone { bridge }]);
        heal(&check().await).await;
        assert_eq!(check().await, []);

        stop(&plan, &programs).await.unwrap();
        nothing_left(&plan).await;
        let docker = &nft::foreign(&nft).await.unwrap().tables[&nft::TableName::new("ip", "filter")];
        assert!(docker.chains["DOCKER-USER"].rules.is_empty());
        stop(&plan, &programs).await.unwrap();
    });
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_left() {
    let Some(programs) = programs("what_is_in_the_way") else { return };
    in_netns_async("what_is_in_the_way", async || {
        let temp = tempfile::tempdir().unwrap();
        let netlink = Netlink::open().unwrap();
        let good = plan(temp.path(), "virbr0", "192.168.122.1");
        let refused = async |plan: &Plan, programs: &Programs| {
            let error = start(plan, programs, &Notes::default()).await.unwrap_err();
            nothing_left(plan).await;
            error
        };
        let missing = |path: &str| Some(PathBuf::from(path));
        let error = refused(&good, &Programs { nft: missing("/nonexistent/nft"), ..programs.clone() }).await;
        assert!(error.message().contains("Cannot find 'nft' binary: '/nonexistent/nft'"), "{error}");
        let error = refused(&good, &Programs { dnsmasq: missing("/nonexistent/d"), ..programs.clone() }).await;
        assert!(error.message().contains("(package dnsmasq-base)"), "{error}");

        netlink.add_veth("eth0", "far").await.unwrap();
        let index = netlink.get("eth0").await.unwrap().index;
        netlink.add_address(index, "192.168.122.77".parse().unwrap(), 24).await.unwrap();
        let error = refused(&good, &programs).await;
        assert!(error.message().contains("Network is already in use by interface eth0"), "{error}");

        let mut bad = plan(temp.path(), "virbr1", "192.168.130.1");
        bad.rules.push_str("nonsense\n");
        assert!(refused(&bad, &programs).await.message().contains("nft refused the firewall rules in 'nonsense'"));
        let mut bad = plan(temp.path(), "virbr1", "192.168.130.1");
        let gateway = "10.9.9.9".parse().unwrap();
        bad.routes = vec![RouteSpec { destination: "10.8.0.0".parse().unwrap(), prefix: 16, gateway, metric: None }];
        assert!(refused(&bad, &programs).await.message().contains("cannot add route to 10.8.0.0/16 through 10.9.9.9"));
        let mut bad = plan(temp.path(), "virbr1", "192.168.130.1");
        bad.server.as_mut().unwrap().files[0].1.push_str("what\n");
        assert!(refused(&bad, &programs).await.message().contains("dnsmasq did not start"), "dnsmasq");

        let busy = plan(temp.path(), "eth0", "192.168.131.1");
        let error = start(&busy, &programs, &Notes::default()).await.unwrap_err();
        assert_eq!(error.code, Code::OperationInvalid);
        assert!(error.message().contains("cannot make its bridge 'eth0': an interface of this name exists"), "{error}");
        assert!(netlink.find("eth0").await.unwrap().is_some());
    });
}

#[test]
fn a_record_cannot_name_what_is_not_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let steps = [
        Step::Dir { path: "/etc".into() },
        Step::Dir { path: temp.path().into() },
        Step::Dir { path: temp.path().join("../x") },
        Step::Server { pidfile: "/run/x.pid".into() },
    ];
    let errors = runtime.block_on(undo(&steps, &Programs::default(), temp.path()));
    assert_eq!(errors.len(), steps.len());
    let again: Vec<Step> = serde_json::from_str(&serde_json::to_string(&steps).unwrap()).unwrap();
    assert_eq!(again, steps);
}

#[test]
fn many_networks_at_once() {
    let Some(programs) = programs("many_networks_at_once") else { return };
    in_netns_async("many_networks_at_once", async || {
        let temp = tempfile::tempdir().unwrap();
        let plans: Vec<_> =
            (0..8).map(|n| plan(temp.path(), &format!("virbr{n}"), &format!("192.168.{}.1", 100 + n))).collect();
        let notes = Notes::default();
        let started = futures_util::future::join_all(plans.iter().map(|plan| start(plan, &programs, &notes))).await;
        assert!(started.iter().all(Result::is_ok), "{started:?}");
        let mut filter = Filter::open();
        let seen = Seen::now(&programs, &mut filter).await.unwrap();
        assert!(plans.iter().all(|plan| super::check(plan, &seen, &[]).is_empty()));
        let steps = notes.0.lock().unwrap().clone();
        assert!(undo(&steps, &programs, &temp.path().join("run")).await.is_empty());
        for plan in &plans {
            nothing_left(plan).await;
        }
    });
}
