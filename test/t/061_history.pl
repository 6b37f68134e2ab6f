# A patient's story, from the sessions of those concerned: refused, granted, read, amended, taken back,
# refused, read in an emergency, reviewed.  His history shows it whole, to whom the contract shows it, with
# what proves it; and so it does whatever dies on the way.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @workers = ('apm network server', 'apm miner', 'apm cloud', 'apm reception');
my $node = apm_node('hospital', setup => 0, settings => { log_statement => 'none', restart_after_crash => 'on' });
$node->safe_psql('clinic', q{SELECT apm_setup(8, access => 'consent')});
$node->safe_psql('clinic', q{
	CREATE ROLE clerk LOGIN; GRANT apm_registrar TO clerk;
	CREATE ROLE doctor LOGIN; GRANT apm_clinician TO doctor;
	CREATE ROLE other LOGIN; GRANT apm_clinician TO other;
	CREATE ROLE desk LOGIN; GRANT doctor TO desk;
	CREATE ROLE auditor LOGIN; GRANT apm_auditor TO auditor;
	CREATE ROLE chief LOGIN; GRANT apm_admin TO chief;
	CREATE ROLE scholar LOGIN; GRANT apm_researcher TO scholar;
	CREATE ROLE amina LOGIN;
	GRANT EXECUTE ON FUNCTION apm_access_history(text, text, jsonb) TO amina});

my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)};

sub as
{
	my ($role, $sql) = @_;
	return in_session($node, 'clinic', $role, $sql);
}

sub superuser
{
	return $node->safe_psql('clinic', $_[0]);
}

# A patient's story, step by step: what it is, whose session, what is done there, the rule that refuses it (the
# contract's, or one about data), and what it leaves in the history.
sub story
{
	my ($pid) = @_;
	my $rid = superuser('SELECT gen_random_uuid()');
	my $read = qq{SELECT count(*) FROM apm_fetch('$pid', 'treatment')};

	return (
		[ 'registered', 'clerk', qq{SELECT apm_register_patient('$pid', '{"Firstname": "Amina"}')} ],
		[ 'a record is submitted', 'doctor', qq{SELECT apm_submit('$pid', '{"Disease": "Fever", "Blood": "A"}', '$rid')} ],
		[ 'one that contradicts it is not taken', 'doctor', qq{SELECT apm_submit('$pid', '{"Blood": "B"}')}, 'blood' ],
		[ 'nobody reads without a grant', 'doctor', $read, 'consent', 'doctor|doctor|records|treatment||f|consent' ],
		[ 'granted', 'clerk', qq{SELECT apm_grant_access('$pid', 'doctor')} ],
		[ 'the grantee reads', 'doctor', $read, undef, 'doctor|doctor|records|treatment||t|' ],
		[ 'another does not', 'other', $read, 'consent', 'other|other|records|treatment||f|consent' ],
		[ 'the record is amended', 'doctor', qq{SELECT apm_submit('$pid', '{"Disease": "Influenza"}', amends => '$rid')} ],
		[ 'what is current is read', 'desk', qq{SET ROLE doctor; SELECT 1 / (record->>'Disease' = 'Influenza')::int FROM apm_fetch('$pid')},
			undef, 'doctor|desk|records|||t|' ],
		[ 'all versions are read', 'doctor', qq{SELECT 1 / (count(*) - 1) FROM apm_fetch('$pid', all_versions => true)},
			undef, 'doctor|doctor|records|||t|' ],
		[ 'taken back', 'clerk', qq{SELECT apm_revoke_access('$pid', 'doctor')} ],
		[ 'the former grantee does not read', 'doctor', $read, 'consent', 'doctor|doctor|records|treatment||f|consent' ],
		[ 'he does in an emergency', 'doctor', qq{SELECT 1 / count(*) FROM apm_break_glass('$pid', 'unconscious', 'brought in')},
			undef, 'doctor|doctor|emergency|emergency|unconscious|t|' ],
		[ 'which is reviewed', 'auditor', qq{SELECT apm_review_break_glass(max(tid::text)::uuid, true) FROM apm.break_glass_review} ]);
}

# Tells one step; true if it went as it should.
sub step_of
{
	my ($step, $pid) = @_;
	my ($name, $role, $sql, $rule) = @$step;
	my ($state, $message) = in_session_state($node, 'clinic', $role, $sql);
	my $good = defined $rule ? $state =~ /^AP0(01|16)$/ && $message =~ /rule "$rule"/ : $state eq '00000';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($good, "$pid: $name") || diag("$state: $message");
}

as('chief', q{SELECT apm_add_data_rule('blood', 'Blood', '{"constant": true}')});
wait_for($node, 'clinic', q{SELECT count(*) > 0 FROM apm.contract WHERE name = 'blood'}, 'a data rule is in force');

my $columns = 'acting, login, access, purpose, reason, allowed, rule';
my $own = 'auditor|auditor|history|audit||t|';

# --- the story as it goes
my @story = story('a');
foreach my $step (@story)
{
	step_of($step, 'a');
	poll($node, 'clinic', $arrived) or die 'stuck';
}
my @expected = map { $_->[4] // () } @story;
is(as('auditor', "SELECT $columns FROM apm_access_history('a', 'audit')"), join("\n", @expected, $own), 'the history shows it whole, and itself');
is(as('auditor', q{SELECT count(*), count(*) FILTER (WHERE l.leaf = h.leaf AND l.block = h.block AND l.kind = 'query'
			AND l.verdict = CASE WHEN h.allowed THEN 'valid' ELSE 'refused' END AND l.rule IS NOT DISTINCT FROM h.rule
			AND asked_at BETWEEN now() - interval '1 hour' AND now())
		FROM apm_access_history('a', 'audit') AS h JOIN apm.ledger AS l USING (tid, height, position)}),
	(@expected + 1) . '|' . (@expected + 1), 'each row names the leaf and the block that prove it');

# --- whom the contract shows it
my $history = q{SELECT count(*) FROM apm_access_history('a', 'patient-request')};
fails_in_session($node, 'clinic', $_, $history, 'AP001', qr/rule "consent"/, "$_ does not see it") foreach qw(doctor amina);
fails_in_session($node, 'clinic', 'clerk', $history, '42501', qr/permission denied/, 'nor does a registrar');
as('clerk', q{SELECT apm_grant_access('a', 'amina', purpose => 'patient-request')});
poll($node, 'clinic', $arrived);
cmp_ok(as('amina', $history), '>', @expected, 'the patient does, by a role that was granted it');
as('clerk', q{SELECT apm_grant_access('a', 'other', purpose => 'treatment')});
poll($node, 'clinic', $arrived);
fails_in_session($node, 'clinic', 'other', q{SELECT * FROM apm_access_history('a', 'treatment')}, 'AP001', qr/rule "consent"/, 'who may treat him does not');
fails_in_session($node, 'clinic', 'amina', q{SELECT * FROM apm_access_history('nobody', 'patient-request')}, 'AP001', qr/rule "patient"/, 'and of nobody else');
fails_in_session($node, 'clinic', 'auditor', q{SELECT * FROM apm_access_history('nobody')}, 'AP001', qr/rule "patient"/, 'not even an auditor');
fails_in_session($node, 'clinic', 'auditor', q{SELECT * FROM apm_access_history(NULL)}, '22004', qr/must not be null/, 'a pid is needed');
is(as('auditor', q{SELECT string_agg(acting || ' ' || coalesce(purpose, '-') || ' ' || coalesce(rule, 'ok'), ', ' ORDER BY height)
		FROM apm_access_history('a') WHERE access = 'history' AND acting <> 'auditor'}),
	'doctor patient-request consent, amina patient-request consent, amina patient-request ok, other treatment consent', 'who looked into the history stands in it');

# --- a dataset is an access, too
superuser(q{SELECT apm_declare_attribute('Disease', 'other', exportable => true)});
is(as('scholar', q{SELECT count(*) FROM apm_export('heart-2026')}), 0, 'without a grant the patient is in no dataset');
as('clerk', q{SELECT apm_grant_access('a', 'scholar', purpose => 'research')});
poll($node, 'clinic', $arrived);
is(as('scholar', q{SELECT count(*) FROM apm_export('heart-2026')}), 1, 'with one he is');
is(as('auditor', q{SELECT string_agg(concat_ws(' ', acting, purpose, study, rule), ', ' ORDER BY height) FROM apm_access_history('a') WHERE access = 'export'}),
	'scholar research heart-2026 consent, scholar research heart-2026', 'and his history says so');
is(as($_, q{SELECT study, release, rows, acting FROM apm.export_release WHERE rows > 0}), 'heart-2026|2|1|scholar', "$_ sees the release")
  foreach qw(scholar auditor chief);

# --- a snapshot of before shows what is there now; what is rolled back stays
my $old = $node->background_psql('clinic', on_error_stop => 1);
$old->query_safe(q{SET ROLE auditor; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
as('doctor', q{BEGIN; SELECT * FROM apm_break_glass('a', 'other-emergency'); ROLLBACK});
is($old->query_safe(q{SELECT count(*) FROM apm_access_history('a') WHERE reason = 'other-emergency'}), 1, 'an old snapshot shows what is new');
$old->query_safe('ROLLBACK');
$old->quit;

# --- who it was is the origin's knowledge
superuser('ALTER ROLE other RENAME TO otherwise');
is(as('auditor', q{SELECT acting, login FROM apm_access_history('a') WHERE login LIKE 'other%' AND access = 'records'}), 'other|other', 'a role has the name that it had');
superuser(q{CREATE TABLE kept AS TABLE apm.staff; UPDATE apm.staff SET acting = 'doctor', login = 'doctor' WHERE acting = 'other'});
like(as('auditor', q{SELECT acting, login IS NULL FROM apm_access_history('a') WHERE rule = 'consent' AND acting ~ '^[0-9a-f]{32}$'}), qr/\|t$/,
	'a name that somebody wrote over is not believed: the pseudonym is shown');
superuser(q{DELETE FROM apm.staff});
is(as('auditor', q{SELECT count(*) FROM apm_access_history('a') WHERE acting !~ '^[0-9a-f]{32}$' AND access <> 'history'}), 0, 'nor is one that is gone known');
superuser(q{TRUNCATE apm.staff; INSERT INTO apm.staff TABLE kept; ALTER ROLE otherwise RENAME TO other});

# --- a history is what the chain holds, or an error; the guards sleep meanwhile
superuser(q{CREATE FUNCTION wake(relation regclass) RETURNS void LANGUAGE plpgsql AS $$ DECLARE guard name;
	BEGIN
		FOR guard IN SELECT tgname FROM pg_trigger WHERE tgrelid = relation AND NOT tgisinternal
		LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, guard); END LOOP;
	END $$});
my $one = superuser('SELECT tid FROM apm.ledger_query ORDER BY height, position LIMIT 1');
sub found
{
	my ($name, $table, $alter) = @_;
	my $sleep = "ALTER TABLE apm.$table DISABLE TRIGGER USER";
	my $wake = "SELECT wake('apm.$table')";

	superuser("$sleep; CREATE TABLE before AS SELECT * FROM apm.$table WHERE tid = '$one'; $alter; $wake");
	fails_in_session($node, 'clinic', 'auditor', q{SELECT * FROM apm_access_history('a')}, 'AP005', qr/a query in the ledger is not what its block says/, $name);
	superuser("$sleep; DELETE FROM apm.$table WHERE tid = '$one'; INSERT INTO apm.$table TABLE before; DROP TABLE before; $wake");
	return is(as('auditor', q{SELECT count(*) > 0 FROM apm_access_history('a')}), 't', "$name: put back, it is read");
}
found('a query whose text was altered', 'body', "UPDATE apm.body SET transaction = set_byte(transaction, 90, get_byte(transaction, 90) # 1) WHERE tid = '$one'");
found('a query whose text is gone', 'body', "DELETE FROM apm.body WHERE tid = '$one'");
found('a refusal that was made a permission', 'ledger_query', "UPDATE apm.ledger_query SET rule = 0 WHERE tid = '$one'");
found('a query put into another place', 'ledger_query', "UPDATE apm.ledger_query SET position = position + 1 WHERE tid = '$one'");
is(superuser('SELECT ok, fault FROM apm_verify()'), 't|', 'the ledger verifies');

# --- the same, and after each step something dies
sub all_run
{
	my $list = join(', ', map { "'$_'" } @workers);

	poll($node, 'clinic', "SELECT count(*) = 4 FROM pg_stat_activity WHERE backend_type IN ($list) AND datname = 'clinic'") or die 'workers do not come back';
	poll($node, 'clinic', q{SELECT bool_and(refusal IS NULL) AND count(*) > 0 FROM apm.status}) or die 'the node does not serve';
	poll($node, 'clinic', $arrived) or die 'stuck';
	return;
}

sub kill_worker
{
	my ($worker) = @_;
	my $pid = worker_pid($node, 'clinic', $worker);

	kill('KILL', $pid) or die "cannot kill $worker";
	poll($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'the server does not come back';
	return;
}

my %blows = (map({ my $worker = $_; ("kill -9 of $worker" => sub { kill_worker($worker) }) } @workers),
	'immediate stop' => sub { $node->stop('immediate'); $node->start; });
my %stories = map { $_ => [ story($_) ] } sort keys %blows;
foreach my $at (0 .. $#story)
{
	foreach my $blow (sort keys %blows)
	{
		step_of($stories{$blow}->[$at], "$blow after each step");
		$blows{$blow}->();
		all_run();
	}
}
foreach my $blow (sort keys %blows)
{
	is(as('auditor', "SELECT $columns FROM apm_access_history('$blow', 'audit')"), join("\n", @expected, $own), "$blow: the history is complete");
}
is(as('auditor', q{SELECT count(*) FROM apm.consent_log WHERE grantee = 'doctor'}), 2 * (1 + keys %blows), 'no grant and no revocation was lost or doubled');
is(superuser('SELECT count(*) FROM apm.quarantine'), 0, 'nothing was quarantined');

# --- a reader whose answer is lost has left his trace
foreach my $worker (@workers[ 0, 1 ])
{
	my $before = as('auditor', q{SELECT count(*) FROM apm_access_history('a') WHERE access = 'records'});
	my $blocker = $node->background_psql('clinic', on_error_stop => 0);
	my $reader = $node->background_psql('clinic', on_error_stop => 0);

	$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');
	$reader->{stdin} .= "SET ROLE doctor;\nSELECT 'read' FROM apm_fetch('a');\n";
	$reader->{run}->pump_nb;
	wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.pool', "a query waits to be judged when the $worker is killed");
	kill_worker($worker);
	eval { $_->quit } foreach ($blocker, $reader);
	all_run();
	unlike($reader->{stdout} // '', qr/^read/m, 'nothing is read');
	is(as('auditor', q{SELECT count(*) FROM apm_access_history('a') WHERE access = 'records'}), $before + 1, 'and the query is in the history');
}

# --- a person who acts as a role by the name "role" is not taken for the role of his own
superuser(q{CREATE ROLE "role"; GRANT apm_clinician TO "role"; GRANT "role" TO amina});
as('clerk', q{SELECT apm_grant_access('a', 'amina')});
wait_for($node, 'clinic', $arrived, 'a grant for a login');
in_session_state($node, 'clinic', 'amina', q{SET ROLE "role"; SELECT count(*) FROM apm_fetch('a')});
is(as('auditor', q{SELECT acting, login FROM apm_access_history('a') WHERE access = 'records' ORDER BY height DESC LIMIT 1}), 'role|amina', 'the history has both');
is(superuser('SELECT ok, fault FROM apm_verify()'), 't|', 'the ledger verifies');
like(superuser('SELECT apm_accept_rollback()'), qr/nothing to accept/, 'no operator was needed');
$node->stop;
done_testing();
