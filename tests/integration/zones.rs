use crate::support::{Origin, Visitor, World, until};
use std::path::Path;

const FAST: &str = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";

/// A balancer in zone `a`; of its targets those named `near…` stand there and the others in `b`. All
/// in one directory share a key, as one balancer does before and after a restart.
fn world(dir: &Path, origins: &[(&str, &Origin)], group: &str) -> World {
    let key = dir.join("shared.key");
    if !key.exists() {
        let text = stayput::policy::affinity::keys::Key::generate([6; 32]).to_base64_line();
        std::fs::write(&key, text.as_bytes()).unwrap();
    }
    let targets = origins.iter().map(|(id, origin)| {
        let zone = if id.starts_with("near") { "a" } else { "b" };
        let address = origin.address();
        format!("{{ id = \"{id}\", address = \"{address}\", zone = \"{zone}\" }}")
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    World::of_text(&format!(
        "[runtime]\nworkers = 2\nzone = \"a\"\nstate_dir = \"state\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [affinity]\nkeys = [{{ id = 1, file = \"{}\" }}]\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n",
        key.display()
    ))
}

fn named() -> [Origin; 4] {
    ["near1", "near2", "far1", "far2"].map(Origin::named)
}

fn all(origins: &[Origin; 4]) -> [(&'static str, &Origin); 4] {
    let [near1, near2, far1, far2] = origins;
    [("near1", near1), ("near2", near2), ("far1", far1), ("far2", far2)]
}

/// A client that was placed on a target, by a balancer that uses all zones.
fn pinned_to(name: &str, dir: &Path, origins: &[(&str, &Origin)]) -> Visitor {
    let world = world(dir, origins, "");
    let mut visitors = (0..4).map(|_| Visitor::of(world.address()));
    visitors.find_map(|mut visitor| (visitor.get("/").body == name).then_some(visitor)).unwrap()
}

fn moved_to(world: &World, before: &Visitor) -> Visitor {
    let mut visitor = Visitor::of(world.address());
    visitor.jar = before.jar.clone();
    visitor
}

#[test]
fn a_client_of_another_zone_moves_into_the_own_one_once_and_stays() {
    let (dir, origins) = (tempfile::tempdir().unwrap(), named());
    let client = pinned_to("far2", dir.path(), &all(&origins));
    let world = world(dir.path(), &all(&origins), "cross_zone = false");
    let mut client = moved_to(&world, &client);
    let moved = client.get("/");
    assert_eq!(moved.field("x-stayput-verdict"), Some("moved_zone"));
    assert!(moved.body.starts_with("near"), "{}", moved.body);
    for _ in 0..3 {
        let again = client.get("/");
        assert_eq!((&again.body, again.field("x-stayput-verdict")), (&moved.body, Some("hit")));
    }
    let line = world.record(|record| record["sticky"] == "moved_zone");
    assert_eq!((&line["from"], &line["set_cookie"]), (&"far2".into(), &"moved".into()));
    let newcomers = (0..6).map(|_| Visitor::of(world.address()).get("/").body);
    assert!(newcomers.collect::<Vec<_>>().iter().all(|body| body.starts_with("near")));
}

#[test]
fn where_nobody_stands_in_the_own_zone_there_is_503_and_pins_are_left_alone() {
    let (dir, origins) = (tempfile::tempdir().unwrap(), named());
    let far = [("far1", &origins[2]), ("far2", &origins[3])];
    let client = pinned_to("far1", dir.path(), &far);
    let heard = || origins[2].heard().len() + origins[3].heard().len();
    let before = heard();
    let world = world(dir.path(), &far, "cross_zone = false");
    for mut visitor in [moved_to(&world, &client), Visitor::of(world.address())] {
        let answer = visitor.get("/");
        assert_eq!((answer.status, answer.all("set-cookie").count()), (503, 0));
    }
    let line = world.record(|record| record["status"] == 503);
    assert_eq!(
        (&line["sticky"], &line["error_reason"]),
        (&"no_target".into(), &"no_target".into())
    );
    assert_eq!(heard(), before, "nobody was asked");
}

#[test]
fn too_few_is_counted_among_the_targets_of_the_own_zone() {
    // One of two is half, which is too few; of all zones it would be three of four.
    let least = format!("minimum_healthy = {{ percent = 60 }}\n{FAST}");
    for (zones, expected) in [("true", "moved_unhealthy"), ("false", "hit")] {
        let (dir, origins) = (tempfile::tempdir().unwrap(), named());
        let client = pinned_to("near1", dir.path(), &all(&origins));
        origins[0].set_healthy(false);
        let group = format!("cross_zone = {zones}\n{least}");
        let world = world(dir.path(), &all(&origins), &group);
        let mut client = moved_to(&world, &client);
        let answer = client.get("/");
        assert_eq!(answer.field("x-stayput-verdict"), Some(expected), "cross_zone = {zones}");
    }
}

#[test]
fn a_sick_zone_of_ones_own_is_not_helped_out_by_others() {
    let (dir, origins) = (tempfile::tempdir().unwrap(), named());
    let group = format!("cross_zone = false\nfail_open = false\n{FAST}");
    let world = world(dir.path(), &all(&origins), &group);
    let mut client = Visitor::of(world.address());
    let at = client.get("/").body;
    assert!(at.starts_with("near"), "{at}");
    origins[0].set_healthy(false);
    origins[1].set_healthy(false);
    let refused = until("nobody of the zone serves", || {
        Some(client.get("/")).filter(|answer| answer.status == 503)
    });
    assert_eq!(refused.all("set-cookie").count(), 0);
    origins[0].set_healthy(true);
    origins[1].set_healthy(true);
    until("the zone serves again", || Some(client.get("/")).filter(|answer| answer.status == 200));
    assert!(origins[2].heard().is_empty() && origins[3].heard().is_empty());
}
