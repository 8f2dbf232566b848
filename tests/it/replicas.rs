//! Two processes behind a round-robin, with every server real.
use crate::{
    app::server,
    main_job_support::Front,
    replicas_support::{Pair, Site},
    vault_support::Bao,
};

#[test]
fn the_main_job_on_two_processes_behind_a_round_robin_with_every_server_real() {
    let bao = Bao::shared();
    let site = Site::new(&bao, "both");
    let pair = Pair::start(&site, &[]);
    let domain = format!("both{}.example", std::process::id());
    let front = Front::new(&pair.round_robin.url, &server("TEST_SMTP_DIR"), &domain, || pair.settle());
    let admin = front.first_administrator(&site.bootstrap());
    front.main_job(&admin);
    let answered = pair.round_robin.answered();
    assert!(answered[0].abs_diff(answered[1]) <= 1, "{answered:?}");
    assert!(pair.processes.iter().all(|process| process.log().contains("\"dependency answers\"")));
    println!("each answered {answered:?}; {} entries twice on the topic", site.verify_relayed());
}
