# A sensor cannot tell a known patient from an unknown one, nor a right name from a wrong
# one: not by answer or error, not by what its session sees of its own work (locks,
# statistics, sequences, savepoints, plans), and not by time.
#
# Reception, which does tell them apart, is held up by nobody: not by a registration in an
# open transaction, not by rows that it cannot open or handle, not by a full queue for longer than
# that is full.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { max_prepared_transactions => 2 });

# One who is registered, named rightly and wrongly, and one who is not.  All have the same length.
my %cases = (
	right => { pid => 'p-here', name => 'Amina' },
	wrong => { pid => 'p-here', name => 'Bilal' },
	nobody => { pid => 'p-none', name => 'Amina' });
my $received = q(SELECT NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new'));
my $arrived = q(SELECT NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new') AND NOT EXISTS (SELECT FROM apm.queue)
	AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue));
my $reasons = q(SELECT string_agg(reason || ' ' || n, ', ' ORDER BY reason)
	FROM (SELECT reason, count(*) AS n FROM apm.waiting GROUP BY reason) AS r);
my $records = 'SELECT count(*) FROM apm.ledger_record';

$node->safe_psql('clinic', q(
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE doctor IN ROLE apm_clinician;
	CREATE ROLE boss IN ROLE apm_admin;
	CREATE ROLE gateway IN ROLE apm_sensor;
	CREATE ROLE other_gateway IN ROLE apm_sensor;));
register($_) foreach (qw(p-here p-busy p-torn));
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.ledger_patient', 'patients are registered');

# --- Answers, and what a session sees of itself ------------------------------------------------

# Rids that each case has submitted before, in a record that amounts to the same.
sub rid_of
{
	my ($case, $n) = @_;
	return sprintf('01890000-0000-7000-8000-%04d%08d', { right => 1, wrong => 2, nobody => 3 }->{$case}, $n);
}

foreach my $case (sort keys %cases)
{
	my $rid = rid_of($case, 1);

	query($node, 'clinic', fill(qq(SELECT apm_submit('PID', '{"Firstname": "NAME"}', '$rid')), $case), 'gateway');
	# also names whoever submits to apm.staff, which happens once
	query($node, 'clinic', fill(q(SELECT apm_submit('PID', '{"a": 1}')), $case), 'other_gateway');
}
wait_for($node, 'clinic', $arrived, 'reception has dealt with them');
is($node->safe_psql('clinic', $reasons), 'identity 1, patient 2', 'and has told them apart');

my $large = 63 * 1024 * 1024;
my @inputs = (
	q(SELECT apm_submit('PID', '{"a": 1}')),
	q(SELECT apm_submit('PID', '{"a": 1, "Firstname": "NAME"}')),
	q(SELECT apm_submit('PID', '{"a": 1, "Firstname": "NAME"}', 'NEW')),
	q(SELECT apm_submit('PID', '"a text"', 'NEW')),
	q(SELECT apm_submit('PID', '{"a": 1}', 'NEW'), apm_submit('PID', '{"a": 1}', 'NEW')),
	q(SELECT apm_submit('PID', '{"a": 1}', 'NEW'), apm_submit('PID', '{"a": 2}', 'NEW')),
	q(SELECT apm_submit('PID', '{"Firstname": "NAME"}', 'OLD')),
	q(SELECT apm_submit('PID', '{"Firstname": "NAME", "a": 1}', 'OLD')),
	q(SELECT apm_submit('PID', '{"Firstname": "NAME"}', 'OLD', 'OLD')),
	q(SELECT apm_submit('PID', '{"a": 1}', amends => 'OLD')),
	q(SELECT apm_submit('PID', '{"a": 1}', amends => 'NEW')),
	q(SELECT apm_submit('PID', '{"a": 1, "Firstname": {"x": "NAME"}}')),
	q(SELECT apm_submit('PID', '{"a": 1, "Firstname": ["NAME"]}')),
	q(SELECT apm_submit('PID', '{"a": 1, "Firstname": null}')),
	q(SELECT apm_submit('PID', '{"a": 1, "Lastname": "NAME"}')),
	q(SELECT apm_submit('PID', '{}')),
	q(SELECT apm_submit('PID', 'null')),
	q(SELECT apm_submit('PID', NULL)),
	q(SELECT apm_submit('PID', 'NAME')),
	q(SELECT apm_submit('PID' || repeat('x', 2000), '{"a": 1}')),
	qq(SELECT apm_submit('PID', to_jsonb(repeat('x', $large)))),
	q(INSERT INTO apm.patient_record VALUES ('PID', '{"a": 1}'), ('PID', '{"Firstname": "NAME"}')),
	q(INSERT INTO apm.patient_record VALUES ('PID', '{"Firstname": "NAME"}', 'OLD') RETURNING *),
	q(INSERT INTO apm.patient_record VALUES ('PID', '{"Firstname": "NAME"}', 'NEW') ON CONFLICT DO NOTHING RETURNING *),
	q(INSERT INTO apm.patient_record SELECT 'PID', to_jsonb(g) FROM generate_series(1, 2500) AS g),
	qq(COPY apm.patient_record (pid, record) FROM stdin;\nPID\t{"Firstname": "NAME"}\nPID\t7\n\\.\n),
	q(UPDATE apm.patient_record SET pid = 'PID'),
	q(EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO apm.patient_record VALUES ('PID', '{"Firstname": "NAME"}')),
	q(EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT apm_submit('PID', '{"Firstname": "NAME"}')),
	q(SAVEPOINT s; SELECT apm_submit('PID', '{"Firstname": "NAME"}', 'NEW'); ROLLBACK TO s; SELECT apm_submit('PID', '{"a": 1}', 'NEW')),
	q(DO $$ BEGIN PERFORM apm_submit('PID', '{"Firstname": "NAME"}'); RAISE 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END $$),
	q(SELECT apm_submit('PID', '{"Firstname": "NAME"}'); PREPARE TRANSACTION 'kept'),
	q(SAVEPOINT s; SELECT apm_submit('PID', '{"Firstname": "NAME"}'); ROLLBACK TO s; PREPARE TRANSACTION 'kept'; ROLLBACK PREPARED 'kept'; BEGIN),
	q(SELECT apm_submit('PID', '{"a": 1}'); SELECT lastval()),
	q(SELECT apm_submit('PID', '{"a": 1}'); SELECT apm_trace('OLD')),
	q(SELECT apm_submit('PID', '{"a": 1}'); SELECT * FROM apm_fetch('PID')),
	q(SELECT apm_submit('PID', '{"a": 1}'); SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 2));

# What a session sees of itself, at the end of its transaction.  Catalogs are left out: what of them is
# cached depends on what others do.
my $view_of_itself = q(
	SELECT l.locktype, c.relname, l.classid, l.objid, l.objsubid, l.mode, l.granted, count(*)
		FROM pg_locks AS l LEFT JOIN pg_class AS c ON c.oid = l.relation
		WHERE l.pid = pg_backend_pid() AND (c.oid IS NULL OR c.relnamespace = 'apm'::regnamespace)
		GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6;
	SELECT relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd
		FROM pg_stat_xact_all_tables WHERE schemaname = 'apm' AND seq_scan + idx_scan + n_tup_ins + n_tup_upd + n_tup_del > 0
		ORDER BY relname;
	SELECT funcname, calls FROM pg_stat_xact_user_functions ORDER BY funcname;
	SELECT nextval('apm.waiting_id_seq'););

sub fill
{
	my ($sql, $case, $new) = @_;
	my %words = (PID => $cases{$case}{pid}, NAME => $cases{$case}{name}, OLD => rid_of($case, 1), NEW => rid_of($case, $new // 2));

	$sql =~ s/(PID|NAME|OLD|NEW)/$words{$1}/g;
	return $sql;
}

# All that a session as this role gets to see, with what the sensor itself has put in taken out.
sub seen
{
	my ($role, $isolation, $input, $case) = @_;
	my ($stdout, $stderr);
	my ($pid, $name) = ($cases{$case}{pid}, $cases{$case}{name});
	my ($old, $new) = (rid_of($case, 1), rid_of($case, 2));

	$node->psql('clinic', sprintf("\\set QUIET off\nSET ROLE %s;\nBEGIN ISOLATION LEVEL %s;\n%s;\n%s\nROLLBACK;\n", $role, $isolation, fill($input, $case),
			$view_of_itself),
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0,
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	my $seen = "$stdout\n$stderr";
	$seen =~ s/^psql:<stdin>:\d+: //mg;
	$seen =~ s/^LOCATION:.*\n//mg;
	$seen =~ s/\Q$old\E/OLD/g;
	$seen =~ s/\Q$new\E/NEW/g;
	$seen =~ s/\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b/DRAWN/g;
	$seen =~ s/\Q$pid\E/PID/g;
	$seen =~ s/\b\Q$name\E\b/NAME/g;
	return $seen;
}

my $differences = 0;
my $failures = 0;
foreach my $session ('gateway, READ COMMITTED', 'gateway, REPEATABLE READ', 'gateway, SERIALIZABLE', 'other_gateway, READ COMMITTED')
{
	my ($role, $isolation) = split(/, /, $session);

	foreach my $input (@inputs)
	{
		next if $input =~ /$large/ && $session ne 'gateway, READ COMMITTED';
		my %seen = map { $_ => seen($role, $isolation, $input, $_) } keys %cases;

		$failures++ if $seen{right} =~ /ERROR/;
		next if $seen{right} eq $seen{wrong} && $seen{right} eq $seen{nobody};
		$differences++;
		diag("$session: $input");
		diag("--- $_:\n$seen{$_}") foreach sort keys %seen;
	}
}
is($differences, 0, scalar(@inputs) . ' inputs of two sensors: the same answer, locks, statistics, for all cases');
cmp_ok($failures, '>', 2 * 10, 'errors among them');
my $good = seen('gateway', 'READ COMMITTED', $inputs[0], 'right');
like($good, qr/^relation\|waiting\|/m, 'locks were seen');
like($good, qr/^waiting\|.*\|1\|0\|0\|0$/m, 'and statistics');
like($good, qr/permission denied for sequence/, 'and no sequence');
unlike($good, qr/^advisory/m, 'nobody was locked');
like(seen('gateway', 'READ COMMITTED', $inputs[6], 'right'), qr/^OLD$/m, 'a repetition is a no-op');
like(seen('other_gateway', 'READ COMMITTED', $inputs[6], 'right'), qr/AP012/, 'unless somebody else submitted that');
like(seen('gateway', 'READ COMMITTED', (grep { /$large/ } @inputs)[0], 'nobody'), qr/54000/, 'a record that is too large is refused for nobody as well');
like(seen('gateway', 'READ COMMITTED', (grep { /kept'$/ } @inputs)[0], 'nobody'), qr/0A000/, 'nothing is prepared');

# The comparison can see a difference: a doctor does look patients up.
isnt(seen('doctor', 'READ COMMITTED', $inputs[0], 'right'), seen('doctor', 'READ COMMITTED', $inputs[0], 'nobody'), 'a doctor is told who is there');

# --- Time ---------------------------------------------------------------------------------------

# Samples of two sorts, interleaved at random in one session, each in a transaction of its own.
$node->safe_psql('clinic', q(
	CREATE PROCEDURE sample(pairs integer, one text, other text) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz;
		swap boolean;
	BEGIN
		CREATE TEMP TABLE took (pair integer, one boolean, us double precision);
		FOR pair IN 1 .. pairs LOOP
			swap := random() < 0.5;
			FOR turn IN 0 .. 1 LOOP
				began := clock_timestamp();
				EXECUTE CASE WHEN (turn = 0) = swap THEN one ELSE other END USING pair;
				INSERT INTO took VALUES (pair, (turn = 0) = swap, extract(epoch FROM clock_timestamp() - began) * 1e6);
				COMMIT;
			END LOOP;
		END LOOP;
	END $$));

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ @sorted / 2 ];
}

# How likely a difference of medians like this is if there is none: the two of each pair are
# exchanged at random.  Drift of the machine is the same for both, and hiccups do not move a median.
sub chance
{
	my ($one, $other) = @_;
	my $pairs = 400;
	my $permutations = 1000;
	my @rows = split(/\n/, query($node, 'clinic', qq(
		CALL sample($pairs, \$sample\$$one\$sample\$, \$sample\$$other\$sample\$);
		SELECT a.us || ' ' || b.us FROM took AS a JOIN took AS b USING (pair) WHERE a.one AND NOT b.one), 'gateway'));
	my @samples = map { [ split / / ] } @rows;
	my $difference = median(map { $_->[0] } @samples) - median(map { $_->[1] } @samples);
	my $as_large = 1;

	is(scalar(@samples), $pairs, 'samples') if @samples != $pairs;
	foreach (1 .. $permutations)
	{
		my (@left, @right);

		foreach my $sample (@samples)
		{
			my $swap = rand() < 0.5 ? 1 : 0;

			push @left, $sample->[$swap];
			push @right, $sample->[ 1 - $swap ];
		}
		$as_large++ if abs(median(@left) - median(@right)) >= abs($difference);
	}
	note(sprintf('medians differ by %.1f of %.1f us, p = %.3f', $difference, median(map { $_->[1] } @samples), $as_large / ($permutations + 1)));
	return $as_large / ($permutations + 1);
}

# A difference shows each time; chance does not come three times in a row.
sub distinguishable
{
	my ($one, $other) = @_;

	foreach (1 .. 3)
	{
		return 0 if chance($one, $other) >= 0.01;
	}
	return 1;
}

my $reading = q({"pulse": 71, "device": "D-1"});
my $named = q({"pulse": 71, "Firstname": "%s"});
my $rid = q(('01890000-0000-7000-9000-' || lpad((%d + $1)::text, 12, '0'))::uuid);

ok(!distinguishable("SELECT apm_submit('p-here', '$reading')", "SELECT apm_submit('p-none', '$reading')"),
	'time does not tell a known patient from an unknown one');
ok(!distinguishable(map { sprintf("SELECT apm_submit('p-here', '$named')", $_) } qw(Amina Bilal)), 'nor a right name from a wrong one');
foreach (0 .. 1)
{
	query($node, 'clinic', sprintf("SELECT count(apm_submit('%s', '$reading', %s)) FROM generate_series(1, 400) AS s (\"\$1\")",
			(qw(p-here p-none))[$_], sprintf($rid, $_ * 1000) =~ s/\$1/"\$1"/r), 'gateway');
}
wait_for($node, 'clinic', $arrived, 'reception has dealt with all that');
ok( !distinguishable(map { sprintf("SELECT apm_submit('%s', '$reading', %s)", (qw(p-here p-none))[$_], sprintf($rid, $_ * 1000)) } 0 .. 1),
	'nor do repetitions');
ok( distinguishable("SELECT apm_submit('p-here', '$reading')", "SELECT apm_submit('p-here', jsonb_build_object('x', repeat('x', 8000)))"),
	'where there is a difference it shows');
wait_for($node, 'clinic', $arrived, 'reception has dealt with that, too');

# --- What reception does with them ----------------------------------------------------------------

sub register
{
	my ($pid) = @_;
	return query($node, 'clinic', qq(SELECT apm_register_patient('$pid', '{"Firstname": "Amina"}')), 'clerk');
}

sub submit
{
	my ($pid, $record) = @_;
	return query($node, 'clinic', "SET statement_timeout = '60s'; SELECT apm_submit('$pid', '$record')", 'gateway');
}

sub pulses
{
	my ($pid) = @_;
	return query($node, 'clinic', "SELECT string_agg(record ->> 'n', ',' ORDER BY recorded_at) FROM apm_fetch('$pid', 'treatment')", 'doctor');
}

sub reception
{
	my ($signal) = @_;
	return kill($signal, worker_pid($node, 'clinic', 'apm reception'));
}

my $waiting = q(SELECT string_agg(reason, ',' ORDER BY id) FROM apm.waiting AS w JOIN apm.submission USING (rid) WHERE rid IN (%s));

# a registration in an open transaction
my $session = $node->background_psql('clinic', on_error_stop => 1);
$session->query_safe(q(SET ROLE clerk; BEGIN; SELECT apm_update_patient('p-busy', '{"Firstname": "Bilal"}');
	SELECT apm_register_patient('p-late', '{"Firstname": "Amina"}')));
my @held = (submit('p-late', '{"n": 1}'), submit('p-busy', '{"n": 1, "Firstname": "Bilal"}'));
my $before = $node->safe_psql('clinic', $records);
submit('p-here', '{"n": 1}');
wait_for($node, 'clinic', $records, 'a registration under way holds up nobody else', $before + 1);
submit('p-late', '{"n": 2}');
is($node->safe_psql('clinic', sprintf($waiting, join(', ', map { "'$_'" } @held))), 'new,new', 'whom it is about waits');
$session->query_safe('COMMIT');
$session->quit;
wait_for($node, 'clinic', $records, 'until it is done', $before + 4);
is(pulses('p-late'), '1,2', 'in order');
is($node->safe_psql('clinic', sprintf($waiting, join(', ', map { "'$_'" } @held))), '', 'and nothing waits any more');

# and one that is given up
$session = $node->background_psql('clinic', on_error_stop => 1);
$session->query_safe(q(SET ROLE clerk; BEGIN; SELECT apm_register_patient('p-lost', '{"Firstname": "Amina"}')));
my $lost = submit('p-lost', '{"n": 1}');
$session->query_safe('ROLLBACK');
$session->quit;
wait_for($node, 'clinic', sprintf($waiting, "'$lost'"), 'a registration that is given up leaves its patient unknown', 'patient');
register('p-lost');
wait_for($node, 'clinic', $arrived, 'until he is registered');
is(pulses('p-lost'), '1', 'and what waited is his');

# rows that do not open: altered, or under another's name; the load that this looks like is accepted
reception('STOP');
my @bad = (submit('p-here', '{"n": 2}'), submit('p-here', '{"n": 3}'));
$before = $node->safe_psql('clinic', $records);
submit('p-here', '{"n": 4}');
my $kept = $node->safe_psql('clinic', "SELECT encode(sealed, 'hex') FROM apm.waiting WHERE rid = '$bad[0]'");
$node->safe_psql('clinic', qq(
	UPDATE apm.waiting SET sealed = 'nonsense' WHERE rid = '$bad[0]';
	UPDATE apm.waiting SET index_key = (SELECT index_key FROM apm.waiting WHERE reason = 'patient' LIMIT 1) WHERE rid = '$bad[1]'));
my $turns = q(SELECT turns FROM apm.status WHERE worker = 'apm reception');
my $turned = $node->safe_psql('clinic', $turns);
reception('CONT');
wait_for($node, 'clinic', "SELECT ($turns) > $turned", 'reception turns');
is($node->safe_psql('clinic', q(SELECT count(*) FROM apm.waiting WHERE reason = 'new')), '3', 'and takes nothing, for somebody has written to its table');
$node->safe_psql('clinic', 'SELECT apm_accept_rollback()');
wait_for($node, 'clinic', $records, 'a row that does not open holds up nobody', $before + 1);
is($node->safe_psql('clinic', sprintf($waiting, join(', ', map { "'$_'" } @bad))), 'failed,failed', 'and goes on waiting');
is($node->safe_psql('clinic', q(SELECT last_error_code FROM apm.status WHERE worker = 'apm reception')), 'AP004', 'which the status shows');
like($node->safe_psql('clinic', "SELECT station || ': ' || detail FROM apm_trace('$bad[0]') WHERE station = 'waiting'"), qr/cannot be opened/, 'and the trace');
$node->safe_psql('clinic', qq(UPDATE apm.waiting SET sealed = decode('$kept', 'hex') WHERE rid = '$bad[0]'; SELECT apm_accept_rollback();
	DELETE FROM apm.waiting WHERE rid = '$bad[1]'; SELECT apm_accept_rollback()));
$node->safe_psql('clinic', 'SELECT apm_run_reception()');
wait_for($node, 'clinic', $records, 'it is tried again when reception starts', $before + 2);

# rows that cannot be handled, because their patient's profile does not open
my $profile = q(apm.profile WHERE apid = (SELECT apid FROM apm.ledger_patient ORDER BY height, position OFFSET 2 LIMIT 1));
$kept = $node->safe_psql('clinic', "SELECT encode(sealed, 'hex') FROM $profile");
$node->safe_psql('clinic', "UPDATE apm.profile SET sealed = 'nonsense' " . ($profile =~ s/apm.profile//r));
reception('STOP');
@bad = map { submit('p-torn', qq({"n": $_})) } (1 .. 3);
$before = $node->safe_psql('clinic', $records);
submit('p-here', '{"n": 5}');
reception('CONT');
wait_for($node, 'clinic', $records, 'a patient whose profile is damaged holds up nobody', $before + 1);
wait_for($node, 'clinic', sprintf($waiting, join(', ', map { "'$_'" } @bad)), 'his records go on waiting', 'failed,failed,failed');
$node->safe_psql('clinic', "UPDATE apm.profile SET sealed = decode('$kept', 'hex') " . ($profile =~ s/apm.profile//r));
$node->safe_psql('clinic', 'SELECT apm_run_reception()');
wait_for($node, 'clinic', $records, 'and arrive when it is mended', $before + 4);
is(pulses('p-torn'), '1,2,3', 'in order');
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.quarantine'), '0', 'nothing is put into quarantine');

# no key
my $key = key_directory($node) . '/apm-envelope.1.pem';
rename($key, "$key.away") or die "$key: $!";
$node->reload;
wait_for($node, 'clinic', q(SELECT last_error_code || ': ' || last_error FROM apm.status WHERE worker = 'apm reception'),
	'without its key reception says what it does not do', 'AP002: reception does not look at what sensors submit: a key is missing');
$before = $node->safe_psql('clinic', $records);
submit('p-here', '{"n": 6}');
is($node->safe_psql('clinic', q(SELECT input, depth FROM apm.status WHERE worker = 'apm reception')), 'waiting|1', 'sensors submit all the same');
rename("$key.away", $key) or die "$key: $!";
wait_for($node, 'clinic', $records, 'which goes on when the key is back', $before + 1);

# --- How many may wait -----------------------------------------------------------------------------

$before = $node->safe_psql('clinic', "SELECT count(*) FROM apm.waiting WHERE reason = 'patient'");
cmp_ok($before, '>', 30, 'very many wait for their patient');
set_and_reload($node, 'apm.max_queue', 20);
reception('STOP');
submit($_ % 2 ? 'p-here' : 'p-none', qq({"n": $_})) foreach (1 .. 20);
fails_with($node, 'clinic', "SELECT apm_submit('$_', '{\"n\": 21}')", '53400', qr/too many records wait for reception/,
	"more than apm.max_queue are refused, for $_ too", 'gateway')
  foreach (qw(p-here p-none));
fails_with($node, 'clinic', q(INSERT INTO apm.patient_record SELECT 'p-none', to_jsonb(g) FROM generate_series(1, 21) AS g), '53400',
	qr/apm.max_queue is 20/, 'in bulk', 'other_gateway');
reception('CONT');
wait_for($node, 'clinic', $received, 'reception takes them');
is(submit('p-none', '{"n": 22}') =~ /^[0-9a-f-]{36}$/, 1, 'and there is room, however many wait for a patient');

# a queue that is full makes reception wait, not fail
my $server = worker_pid($node, 'clinic', 'apm network server');
kill('STOP', $server);
query($node, 'clinic', q(SELECT count(apm_submit('p-here', to_jsonb(g))) FROM generate_series(1, 20) AS g), 'doctor');
submit('p-here', '{"n": 23}');
wait_for($node, 'clinic', q(SELECT last_error FROM apm.status WHERE worker = 'apm reception'), 'reception says that the queue is full',
	'insufficient resources');
my $pid = worker_pid($node, 'clinic', 'apm reception');
kill('CONT', $server);
wait_for($node, 'clinic', $arrived, 'and goes on when there is room');
is(worker_pid($node, 'clinic', 'apm reception'), $pid, 'without having ended');

# --- What the contract asks of records ---------------------------------------------------------------

query($node, 'clinic', q(SELECT apm_add_data_rule('plausible', 'pulse', '{"range": [20, 250]}');
	SELECT apm_add_data_rule('ages', 'age', '{"non-decreasing": true}');
	SELECT apm_add_template('reading', 'primary', '{"line": {"type": "integer", "required": true}}')), 'boss');
wait_for($node, 'clinic', q(SELECT count(*) FROM apm.contract WHERE item IN ('template', 'data rule')), 'rules are in force', '3');
foreach my $input (q(SELECT apm_submit('PID', '{"line": 1, "pulse": 900, "Firstname": "NAME"}')), q(SELECT apm_submit('PID', '{"pulse": 70}')))
{
	my %seen = map { $_ => seen('gateway', 'READ COMMITTED', $input, $_) } keys %cases;

	ok($seen{right} eq $seen{wrong} && $seen{right} eq $seen{nobody}, 'the same for all cases: ' . ($seen{right} =~ /ERROR:  (\w{5})/ ? $1 : 'accepted'))
	  or diag(%seen);
}
like(seen('gateway', 'READ COMMITTED', q(SELECT apm_submit('PID', '{"pulse": 70}')), 'nobody'), qr/22023.*public field/,
	'a record that lacks a public field is refused, for nobody hears of it later');
submit('p-torn', qq({"line": 1, "n": 4, $_})) foreach ('"pulse": 900', '"pulse": 70, "age": 41', '"age": 40');
wait_for($node, 'clinic', $arrived, 'one that violates a rule is taken');
is(query($node, 'clinic', q(SELECT string_agg(flags::text, ' ' ORDER BY recorded_at) FROM apm_fetch('p-torn', 'treatment') WHERE record ->> 'n' = '4'), 'doctor'),
	'{plausible} {} {ages}', 'and flagged');

# somebody who has a patient's last values under change holds up nobody else
$session = $node->background_psql('clinic', on_error_stop => 1);
$session->query_safe(q(SET ROLE doctor; BEGIN; SELECT apm_submit('p-torn', '{"line": 1, "age": 42}')));
submit('p-torn', '{"line": 1, "n": 5, "age": 43}');
$before = $node->safe_psql('clinic', $records);
submit('p-here', '{"line": 1, "age": 43}');
wait_for($node, 'clinic', $records, 'a record on its way holds up nobody else', $before + 1);
$session->query_safe('COMMIT');
$session->quit;
wait_for($node, 'clinic', $arrived, 'who comes after it waits');
is(query($node, 'clinic', q(SELECT flags FROM apm_fetch('p-torn', 'treatment') WHERE record ->> 'n' = '5'), 'doctor'), '{}', 'and is compared with it');

$node->stop;
done_testing();
