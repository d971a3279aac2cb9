//! Every case on SQLite, one test each; all of them on a PostgreSQL server; and all of them on one through the mapping of a bureau's own tables.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{postgres::Postgres, scene::Scene};

async fn on_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Scene) -> F) {
    let folder = TempDir::new().unwrap();
    let scene = Scene::open(&format!(
        "sqlite://{}",
        folder.path().join("card.db").display()
    ))
    .await;
    case(scene).await;
}

/// Every case at once on one PostgreSQL server, in a database each.
macro_rules! on_a_server {
    ($name:ident, $open:path, $($module:ident::$case:ident,)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let Some(postgres) = Postgres::start() else { return };
            let mut cases: Vec<(&str, tokio::task::JoinHandle<()>)> = Vec::new();
            let tasks = tokio_util::task::TaskTracker::new();
            $(
                let url = postgres.create(&stringify!($case)[..40.min(stringify!($case).len())]);
                cases.push((stringify!($case), tasks.spawn(async move {
                    let scene = $open(&url).await;
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

macro_rules! suite {
    ($($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                on_sqlite(crate::$module::$case).await;
            }
        )*

        on_a_server!(everything_holds_on_postgresql, Scene::open, $($module::$case,)*);
        on_a_server!(everything_holds_on_a_bureaus_own_tables, Scene::open_mapped, $($module::$case,)*);
    };
}

suite! {
    eligibility::a_check_of_another_city_is_recognised_until_its_last_day,
    eligibility::an_older_check_does_not_replace_a_newer_one,
    eligibility::a_sign_of_loss_opens_one_investigation_and_stops_nothing,
    eligibility::a_sign_that_came_before_the_bureaus_record_is_investigated,
    eligibility::a_confirmation_after_a_pause_instructs_to_resume_once,
    eligibility::data_clear_no_sign_and_a_check_in_person_does,
    eligibility::who_was_not_reached_is_neither_alive_nor_lost,
    eligibility::a_conclusion_is_recorded_once_with_actor_and_reason,
    eligibility::the_first_answer_of_a_check_is_given_again,
    eligibility::signs_at_once_open_one_investigation,
    campaigns::a_city_reports_its_own_checks_alone,
    campaigns::a_campaign_tells_who_is_due_confirmed_where_and_not_reached,
    campaigns::a_match_answers_each_line_alone,
    campaigns::a_watch_tells_a_city_of_its_own_people_and_resumes,
    campaigns::the_history_of_checks_cannot_be_rewritten,
    campaigns::a_random_run_of_checks_agrees_with_a_model,
    eligibility_model::checks_at_once_and_restarts_agree_with_the_reference,
    entitlements::yes_and_no_come_with_reason_policy_and_validity,
    entitlements::what_is_not_recorded_is_unknown,
    entitlements::old_records_are_unknown_from_the_day_after_their_age,
    entitlements::a_day_outside_of_every_period_is_no_until_the_next_one_begins,
    entitlements::a_suspension_stops_online_settlement_and_nothing_else,
    entitlements::who_is_insured_elsewhere_is_pointed_there_and_never_guessed,
    entitlements::a_question_names_every_fault_at_once,
    entitlements::lines_are_taken_once_and_each_is_judged_alone,
    entitlements::imports_at_once_make_no_periods_that_overlap,
    exports::an_export_is_imported_as_it_stands,
    exports::an_export_takes_the_cards_that_are_asked_for,
    exports::refused_lines_are_corrected_and_imported,
    export_benefits::insured_persons_are_exported_and_imported_as_they_stand,
    export_benefits::beneficiaries_are_exported_and_imported_as_they_stand,
    export_benefits::the_stock_is_exported_and_stocked_as_it_stands,
    imports::a_file_is_taken_once_and_changes_are_taken_over,
    imports::each_faulty_line_names_field_and_rule_and_the_others_go_through,
    imports::an_electronic_link_that_an_import_changes_is_history,
    imports::an_import_keeps_the_state_machine,
    imports::an_import_lifts_no_reported_loss,
    imports::a_reported_loss_ends_and_a_recorded_one_may_be_reported,
    imports::imports_at_once_agree,
    imports::the_last_line_of_a_card_wins_however_long_the_file_is,
    lives::each_service_does_from_each_state_what_the_table_says,
    lives::the_financial_function_goes_its_own_way,
    lives::six_wrong_pins_in_a_row_lock_and_a_right_one_begins_anew,
    lives::a_card_is_renewed_from_60_days_before_its_last_day,
    lives::a_lost_card_is_replaced_by_one_of_the_same_holder,
    lives::applications_at_once_have_one_winner,
    lives::a_card_has_one_electronic_card_that_follows_it,
    lives::a_verification_is_fresh_recognised_and_serves_once,
    lives::a_request_id_stands_for_one_request_of_any_kind,
    lives::every_fault_of_an_application_is_named_at_once,
    lives::new_cards_are_taken_whole_or_not_at_all,
    model::callers_at_once_and_restarts_agree_with_the_reference,
    losses::a_temporary_loss_ends_by_itself,
    losses::a_formal_loss_stays_and_the_functions_are_separate,
    losses::the_first_answer_is_given_again,
    losses::nothing_matched_says_nothing_more,
    losses::what_the_table_does_not_hold_is_refused,
    losses::one_request_sent_many_times_at_once_is_applied_once,
    losses::transitions_at_once_make_one_chain,
    losses::a_random_run_agrees_with_a_model,
    losses::the_history_cannot_be_rewritten,
    losses::a_write_on_an_old_version_loses,
    verifying::everything_that_belongs_together_matches,
    verifying::no_match_never_tells_which_field,
    verifying::expiry_and_electronic_card_are_computed,
    watching::a_watch_resumes_after_its_cursor,
    watching::a_watch_sees_the_changes_of_another_replica,
    watching::silence_moves_only_the_cursor,
    watching::watches_are_bounded_and_end_with_the_service,
}

on_a_server!(
    what_a_bureaus_own_tables_ask_for_holds,
    Scene::open_mapped,
    mapping::the_bureaus_tables_hold_what_was_reported,
    mapping::an_unknown_code_refuses_its_record_and_no_other,
    mapping::a_change_by_the_bureaus_own_programs_counts,
    mapping::bureau_and_history_change_together_or_not_at_all,
    mapping::a_loss_that_the_bureau_ended_is_over,
    mapping::evidence_stays_as_it_is_when_this_service_keeps_a_row,
    mapping::every_mismatch_is_named_at_once,
    mapping::many_cards_are_one_statement_and_agree_with_one_by_one,
    mapping::insured_persons_are_those_of_the_bureaus_table,
    payments::payments_are_those_of_the_bureaus_table,
    payments::campaigns_tell_of_rows_that_the_bureau_wrote_itself,
    payments::a_day_that_the_bureau_sets_stands_until_the_next_check,
    payments::rows_are_written_as_the_bureau_writes_them,
    payments::a_row_that_cannot_be_used_refuses_its_person_and_no_other,
    payments::a_mapping_of_payments_is_checked_and_may_leave_imports_out,
    export_benefits::unusable_rows_of_the_bureau_are_counted_and_left_out,
);
