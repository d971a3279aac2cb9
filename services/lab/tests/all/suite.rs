//! Every case on SQLite, one test each; and all of them on one PostgreSQL server, a database each.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{postgres::Postgres, scene::Scene};

async fn on_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Scene) -> F) {
    let folder = TempDir::new().unwrap();
    let scene = Scene::open(&format!(
        "sqlite://{}",
        folder.path().join("lab.db").display()
    ))
    .await;
    case(scene).await;
}

macro_rules! suite {
    ($($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                on_sqlite(crate::$module::$case).await;
            }
        )*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn everything_holds_on_postgresql() {
            let Some(postgres) = Postgres::start() else { return };
            let mut cases: Vec<(&str, tokio::task::JoinHandle<()>)> = Vec::new();
            let tasks = tokio_util::task::TaskTracker::new();
            $(
                let url = postgres.create(&stringify!($case)[..40.min(stringify!($case).len())]);
                cases.push((stringify!($case), tasks.spawn(async move {
                    let scene = Scene::open(&url).await;
                    crate::$module::$case(scene).await;
                })));
            )*
            let (names, handles): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
            let outcomes = join_all(handles).await;
            let failed: Vec<_> =
                names.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()).collect();
            assert!(failed.is_empty(), "{failed:?}");
        }
    };
}

suite! {
    decisions::a_decision_is_recorded_once_and_each_fault_names_field_and_rule,
    decisions::a_decision_reaches_the_hospital_that_issued_the_report,
    decisions::a_delivered_decision_is_taken_once_and_only_from_its_own_city,
    decisions::what_the_other_city_refuses_is_told_to_the_deciding_hospital,
    decisions::decisions_are_shown_to_the_hospitals_concerned_a_page_at_a_time,
    decisions::statistics_count_the_last_decision_by_institution_item_and_reason,
    decisions::one_decision_sent_many_times_at_once_is_recorded_once,
    decisions::decisions_and_deliveries_cannot_be_rewritten,
    fhir::a_bundle_is_published_and_read_back_as_it_was_sent,
    fhir::a_foreign_example_is_refused_with_every_fault,
    fhir::a_chinese_laboratorys_report_is_published_with_its_normalised_values,
    finding::a_patients_reports_come_newest_first_within_items_and_window,
    finding::cancelled_reports_come_only_when_asked_for,
    finding::a_report_is_read_by_institution_and_number,
    publishing::a_report_is_published_once,
    publishing::each_fault_names_field_and_rule_and_the_other_lines_go_through,
    publishing::a_newer_version_supersedes_and_the_old_one_is_kept,
    publishing::corrections_sent_together_are_numbered_in_their_order,
    publishing::what_may_not_follow_is_refused,
    publishing::values_keep_the_senders_number_and_are_normalised_beside_it,
    publishing::a_system_publishes_for_its_own_institution,
    publishing::one_report_sent_many_times_at_once_is_published_once,
    publishing::versions_readings_and_changes_cannot_be_rewritten,
    quality::a_round_is_registered_once_and_each_fault_names_field_and_rule,
    quality::only_organisers_register_and_evaluate,
    quality::results_are_taken_while_the_round_is_open_and_the_last_one_counts,
    quality::each_refused_result_names_field_and_rule,
    quality::a_round_is_evaluated_once_and_at_the_limits_edges,
    quality::results_and_evaluation_at_once_leave_nothing_out,
    quality::marks_follow_from_passed_rounds_and_never_from_the_sender,
    quality::targets_and_scores_are_shown_to_those_whom_they_concern,
    quality::rounds_results_and_evaluations_cannot_be_rewritten,
    recognition::a_found_report_is_assessed_with_the_marks_that_its_city_stated,
    referrals::a_referral_goes_to_another_city_with_its_documents_and_comes_back,
    referrals::each_hospital_takes_its_own_steps_and_strangers_see_nothing,
    referrals::a_step_is_taken_once_and_two_at_once_cannot_both_win,
    referrals::what_nobody_answers_and_slots_to_which_nobody_comes_run_out,
    referrals::a_slot_that_is_held_on_the_store_under_test_runs_out,
    referrals::a_cancellation_stands_when_the_receiving_city_says_so,
    referrals::a_letter_that_the_other_city_does_not_take_comes_back_as_a_draft,
    referrals::a_hospital_watches_its_referrals_and_resumes_after_a_cursor,
    referrals::the_history_of_a_referral_cannot_be_rewritten,
    watching::who_read_the_old_version_is_told_and_nobody_else,
    watching::a_watch_resumes_after_its_cursor,
    watching::a_watch_sees_the_changes_of_another_replica,
    watching::a_reader_of_the_new_version_is_not_told_of_it,
    watching::silence_moves_only_the_cursor,
    watching::watches_are_bounded_and_end_with_the_service,
}
