//! Groups without `cross_zone`, and the number of healthy targets below which a group fails open.

use crate::support::{Origin, Visitor, World, until};
use stayput::testing::model::live::Health;
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};

// A target that is slow because it lacks a CPU must not look like one that is down.
const FAST: &str = "interval = \"400ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 2";

/// A balancer in zone a with these targets, each with its zone, once all checks have a result.
fn world(targets: &[(&Origin, char)], group: &str) -> World {
    let entry = |(at, (origin, zone)): (usize, &(&Origin, char))| {
        format!("{{ id = \"{at}\", address = \"{}\", zone = \"{zone}\" }}", origin.address())
    };
    let entries = targets.iter().enumerate().map(entry).collect::<Vec<_>>().join(", ");
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nzone = \"a\"\nstate_dir = \"state\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n\
         [target_group.app]\ntargets = [{entries}]\n{group}\nhealth = {{ {FAST} }}\n"
    ));
    let is_known = |at: usize| world.availability(at).health != Health::Initial;
    until("all are known", || (0..targets.len()).all(is_known).then_some(()));
    world
}

fn origin(name: &'static str, healthy: bool) -> Origin {
    let origin = Origin::named(name);
    origin.set_healthy(healthy);
    origin
}

/// The targets that serve new clients, each once; `503` if none does.
fn serving(world: &World) -> String {
    let answers = (0..8).map(|_| Visitor::of(world.address()).get("/"));
    let mut names: Vec<_> = answers
        .map(|answer| if answer.status == 503 { "503".to_owned() } else { answer.body })
        .collect();
    names.sort();
    names.dedup();
    names.concat()
}

#[test]
fn a_balancer_without_cross_zone_answers_503_for_an_empty_zone() {
    let elsewhere = origin("x", true);
    assert_eq!(serving(&world(&[(&elsewhere, 'b')], "cross_zone = false")), "503");
    assert_eq!(serving(&world(&[(&elsewhere, 'b')], "cross_zone = true")), "x");
}

#[test]
fn a_zone_whose_targets_are_all_down_fails_open_within_itself() {
    let (own, elsewhere) = (origin("x", false), origin("y", true));
    let targets = [(&own, 'a'), (&elsewhere, 'b')];
    assert_eq!(serving(&world(&targets, "cross_zone = false")), "x");
    assert_eq!(serving(&world(&targets, "cross_zone = false\nfail_open = false")), "503");
    assert_eq!(serving(&world(&targets, "cross_zone = true")), "y");
}

#[test]
fn without_cross_zone_a_percentage_counts_targets_of_the_zone() {
    let origins = [("w", true), ("x", false), ("y", true), ("z", true)];
    let origins = origins.map(|(name, healthy)| origin(name, healthy));
    let targets: Vec<_> = origins.iter().zip(['a', 'a', 'b', 'b']).collect();
    // One of two in zone a, three of four in all.
    let group = |cross_zone: bool, percent: u8| {
        format!("cross_zone = {cross_zone}\nminimum_healthy = {{ percent = {percent} }}")
    };
    assert_eq!(serving(&world(&targets, &group(false, 60))), "wx");
    assert_eq!(serving(&world(&targets, &group(false, 50))), "w");
    assert_eq!(serving(&world(&targets, &group(true, 60))), "wyz");
    assert_eq!(serving(&world(&targets, &group(true, 80))), "wxyz");
}

#[test]
fn fail_open_begins_below_the_count_or_the_percentage() {
    let origins = [("x", true), ("y", true), ("z", false)];
    let origins = origins.map(|(name, healthy)| origin(name, healthy));
    let targets: Vec<_> = origins.iter().zip(['a', 'a', 'a']).collect();
    for (count, percent, serves) in
        [(2, 60, "xy"), (3, 60, "xyz"), (2, 70, "xyz"), (3, 0, "xyz"), (1, 0, "xy"), (3, 70, "xyz")]
    {
        let group = format!("minimum_healthy = {{ count = {count}, percent = {percent} }}");
        assert_eq!(serving(&world(&targets, &group)), serves, "{count} {percent}");
    }
}

/// A client that was placed on a target while all zones were used.
fn pinned_to(id: &str, world: &World) -> Visitor {
    let issued_at = stayput::testing::base::clock::Moment::now().unix_seconds().try_into().unwrap();
    let (group, target) = (GroupKey::of("app"), TargetKey::of("app", id));
    let contents = Contents::new(Seed(1), Pin { group, target, issued_at });
    let sealed = world.server().published().current().keyring.seal(Kind::Lb, &contents);
    let mut visitor = Visitor::of(world.address());
    visitor.jar.insert("AWSALB".into(), sealed.as_str().to_owned());
    visitor
}

#[test]
fn a_client_from_another_zone_moves_once_and_stays() {
    let origins = [("w", true), ("x", true), ("y", true)];
    let origins = origins.map(|(name, healthy)| origin(name, healthy));
    let targets: Vec<_> = origins.iter().zip(['a', 'a', 'b']).collect();
    let kept = world(&targets, "cross_zone = true");
    assert_eq!(pinned_to("2", &kept).get("/").body, "y");
    let world = world(&targets, "cross_zone = false");
    let mut client = pinned_to("2", &world);
    let moved = client.get("/");
    assert_eq!(moved.field("x-stayput-verdict"), Some("moved_zone"));
    assert_ne!(moved.body, "y");
    for _ in 0..3 {
        let again = client.get("/");
        assert_eq!((&again.body, again.field("x-stayput-verdict")), (&moved.body, Some("hit")));
    }
    let line = world.record(|record| record["sticky"] == "moved_zone");
    assert_eq!((&line["from"], &line["set_cookie"]), (&"2".into(), &"moved".into()));
}

#[test]
fn a_pin_stays_if_no_target_of_the_zone_can_serve() {
    let elsewhere = origin("x", true);
    let world = world(&[(&elsewhere, 'b')], "cross_zone = false");
    let answer = pinned_to("0", &world).get("/");
    assert_eq!((answer.status, answer.all("set-cookie").count()), (503, 0));
    let line = world.record(|record| record["status"] == 503);
    let told = [&line["sticky"], &line["error_reason"], &line["from"]];
    assert_eq!(told, ["no_target", "no_target", "0"]);
    assert!(elsewhere.heard().is_empty());
}
