# Reliability of data: records are held to the contract's data rules before they are sealed, each rule by
# itself, after earlier records, and by two sessions at once; what rules remember is readable nowhere.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $canary = 'canary-5b1d0e77';
my $node = apm_node('hospital', setup => 0, settings => { log_statement => 'none', log_min_duration_statement => -1 });
my $bin = $node->config_data('--bindir');

$node->safe_psql('clinic', 'SELECT apm_setup(8)');
$node->safe_psql('clinic', q{
	CREATE ROLE chief LOGIN IN ROLE apm_admin; CREATE ROLE clerk LOGIN IN ROLE apm_registrar;
	CREATE ROLE doctor LOGIN IN ROLE apm_clinician; CREATE ROLE monitor LOGIN IN ROLE apm_sensor});

# --- Words for the stories -------------------------------------------------------------------------------

# Changes the contract and waits until that is in force.
sub contract
{
	my ($sql) = @_;
	my $tid = in_session($node, 'clinic', 'chief', "SELECT $sql");

	poll($node, 'clinic', "SELECT rule = 0 FROM apm.leaf WHERE tid = '$tid'") or die "not in force: $sql";
	return;
}

sub rule
{
	my ($name, $attribute, $check, $violation) = @_;
	return contract("apm_add_data_rule('$name', '$attribute', '$check', '" . ($violation // 'refuse') . "')");
}

sub patient
{
	my ($pid, $attributes) = @_;
	$attributes //= '{}';
	in_session($node, 'clinic', 'clerk', qq{SELECT apm_register_patient('$pid', '{"Firstname": "F"}', '$attributes')});
	return;
}

# Submits each record by itself; gives the Rids.
sub submit
{
	my ($pid, @records) = @_;
	return map { in_session($node, 'clinic', 'doctor', "SELECT apm_submit('$pid', \$\$$_\$\$)") } @records;
}

sub takes
{
	my ($pid, $record, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like((submit($pid, $record))[0], qr/^[0-9a-f-]{36}$/, $name);
}

sub refuses
{
	my ($pid, $record, $rule, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fails_in_session($node, 'clinic', 'doctor', "SELECT apm_submit('$pid', \$\$$record\$\$)",
		'AP016', qr/^the record violates data rule "$rule"\n/, $name);
}

sub amends
{
	my ($rid, $pid, $record) = @_;
	return in_session($node, 'clinic', 'doctor', "SELECT apm_submit('$pid', \$\$$record\$\$, amends => '$rid')");
}

# What a reader sees of a patient's records: an attribute and the flags, in the order of the chain.
sub flags
{
	my ($pid, $attribute) = @_;
	return in_session($node, 'clinic', 'doctor',
		"SELECT string_agg(concat_ws(':', record ->> '$attribute', NULLIF(array_to_string(flags, '+'), '')), ' ') FROM apm_fetch('$pid')");
}

sub recorded
{
	my ($count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($node, 'clinic', 'SELECT count(*) FROM apm.ledger_record', $name, $count);
}

sub records
{
	return $node->safe_psql('clinic', 'SELECT count(*) FROM apm.submission');
}

# A session that stays; ask() gives what a statement answers.
sub session
{
	my ($role) = @_;
	return $node->background_psql('clinic', on_error_stop => 0, extra_params => [ '-U', $role ]);
}

# --- Without rules ----------------------------------------------------------------------------------------

patient('range');
takes('range', '{"pulse": "any", "beat": [1]}', 'without rules, anything is a record');
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.last_value WHERE sealed <> $$$$'), '0', 'and nothing is remembered');

# --- Range ------------------------------------------------------------------------------------------------

rule('pulse-plausible', 'pulse', '{"range": [0.1, 0.3]}');
refuses('range', '{"pulse": 0.09}', 'pulse-plausible', 'below a range');
refuses('range', '{"pulse": 0.300000000000000000000000000000000001}', 'pulse-plausible', 'above it, by however little');
takes('range', '{"pulse": 0.3}', 'its ends belong to it');
takes('range', '{"pulse": 1e-1}', 'both of them, however written');
refuses('range', '{"pulse": "0.2"}', 'pulse-plausible', 'a text is not in a range of numbers');
refuses('range', '{"pulse": [0.2]}', 'pulse-plausible', 'nor is an array');
refuses('range', '{"pulse": true}', 'pulse-plausible', 'nor a boolean');
takes('range', '{"Pulse": 99}', 'a rule is about one attribute');
takes('range', '{"pulse": null, "note": 1}', 'null says nothing');
takes('range', '"just a text"', 'a record that has no attributes violates nothing');
rule('beat-positive', 'beat', '{"range": [0, null]}');
takes('range', '{"beat": 1e300}', 'an open end');
refuses('range', '{"beat": -1e-300}', 'beat-positive', 'the other end');
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.last_value WHERE sealed <> $$$$'), '0', 'a range needs no memory');

# what the transaction says, byte by byte as doc/format.md has it
sub rulesets
{
	return $node->safe_psql('clinic', 'SELECT string_agg(DISTINCT encode(substr(transaction, 195, 32), $$hex$$), $$ $$) FROM apm.body JOIN apm.ledger_record USING (tid) WHERE ' . $_[0]);
}
recorded(records(), 'all that was taken is in the ledger');
is(rulesets('height < (SELECT min(height) FROM apm.contract_item WHERE get_byte(item, 0) = 6)'), '0' x 64, 'records that were held to no rules say so');
is( rulesets('height > (SELECT max(height) FROM apm.contract_item)'),
	$node->safe_psql('clinic', q{SELECT encode(sha256(string_agg(item, '' ORDER BY substr(item, 6))), 'hex') FROM apm.contract_item WHERE get_byte(item, 0) = 6}),
	'the others which rules those were');

# --- Codes ------------------------------------------------------------------------------------------------

patient('codes');
rule('group-known', 'group', '{"codes": ["A", "B", "0", "\u00f6", 7, true]}');
takes('codes', qq({"group": $_}), "the code $_") foreach ('"A"', '"0"', '7.00', 'true');
takes('codes', '{"group": "o\u0308"}', 'in whatever normal form');
refuses('codes', qq({"group": $_}), 'group-known', "not the code $_") foreach ('"a"', '"AB"', '0', '"7"', 'false', '{"A": 1}');

# --- Constant ---------------------------------------------------------------------------------------------

patient('constant');
rule('blood-constant', 'blood', '{"constant": true}');
takes('constant', '{"blood": "A"}', 'the first value may be any');
takes('constant', '{"blood": "A"}', 'the same again');
takes('constant', '{"other": "B"}', 'none at all');
refuses('constant', '{"blood": "B"}', 'blood-constant', 'another one');
refuses('constant', '{"blood": ["A"]}', 'blood-constant', 'one that cannot be compared');
takes('constant', '{"blood": "A"}', 'what was refused left nothing behind');
patient('number');
takes('number', '{"blood": 1.0}', 'a number');
takes('number', '{"blood": 1}', 'equal is equal, however written');
refuses('number', '{"blood": "1"}', 'blood-constant', 'a text is no number');
patient('profile', '{"blood": "B"}');
refuses('profile', '{"blood": "A"}', 'blood-constant', 'before the first record the profile has the word');
takes('profile', '{"blood": "B"}', 'and is followed');

# --- Non-decreasing ---------------------------------------------------------------------------------------

patient('count');
rule('doses-grow', 'doses', '{"non-decreasing": true}');
takes('count', qq({"doses": $_}), "then $_") foreach (1, 2, '2.0', '12345678901234567890123');
refuses('count', '{"doses": 12345678901234567890122}', 'doses-grow', 'less than before');
refuses('count', '{"doses": "99999999999999999999999"}', 'doses-grow', 'a text');
fails_in_session($node, 'clinic', 'doctor', q{INSERT INTO apm.patient_record (pid, record)
	VALUES ('several', '{"doses": 5}'), ('several', '{"doses": 4}')}, 'AP009', qr/no such patient/, 'a patient who is not there');
patient('several');
fails_in_session($node, 'clinic', 'doctor', q{INSERT INTO apm.patient_record (pid, record)
	VALUES ('several', '{"doses": 5}'), ('several', '{"doses": 4}')}, 'AP016', qr/"doses-grow"/, 'records of one statement are held to one another');
in_session($node, 'clinic', 'doctor', q{INSERT INTO apm.patient_record (pid, record)
	VALUES ('several', '{"doses": 4}'), ('count', '{"doses": 12345678901234567890123}'), ('several', '{"doses": 5}')});
refuses('several', '{"doses": 4}', 'doses-grow', 'in their order');

# --- Rate -------------------------------------------------------------------------------------------------

patient('rate');
rule('weight-slow', 'weight', '{"rate": {"most": 0.5, "per": "day"}}');
rule('steps-fast', 'steps', '{"rate": {"most": 1e30, "per": "second"}}');
takes('rate', '{"weight": 80, "steps": 0}', 'the first');
takes('rate', '{"weight": 80.0, "steps": 1000000000000}', 'no change of one, and a fast one of another');
refuses('rate', '{"weight": 80.5}', 'weight-slow', 'in a moment what is allowed in a day');
refuses('rate', '{"weight": 79.5}', 'weight-slow', 'downwards as well');
takes('rate', '{"weight": 80.0000001}', 'a change as small as the time');
patient('far');
takes('far', '{"weight": 9e131071}', 'a number as far as there is');
refuses('far', '{"weight": 1}', 'weight-slow', 'coming back from it is fast');
refuses('far', '{"weight": -9e131071}', 'weight-slow', 'so is a change that is no number any more');
takes('far', '{"weight": 9e131071}', 'no change is none');

# --- Flagged ----------------------------------------------------------------------------------------------

patient('flagged');
rule('z-temperature', 'temperature', '{"range": [35, 42]}', 'flag');
rule('a-temperature', 'temperature', '{"rate": {"most": 0, "per": "day"}}', 'flag');
submit('flagged', '{"temperature": 37}', '{"temperature": 45}', '{"temperature": 45}', '{"temperature": 41}', '{"else": 1}');
is(flags('flagged', 'temperature'), '37 45:a-temperature+z-temperature 45:z-temperature 41:a-temperature ', 'a rule that flags names itself to the reader');
is( in_session($node, 'clinic', 'doctor', q{SELECT record FROM apm_fetch('flagged') LIMIT 1 OFFSET 1}),
	'{"Firstname": "F", "temperature": 45}', 'and the record is as it was');
refuses('flagged', '{"temperature": 99, "pulse": 99}', 'pulse-plausible', 'a rule that refuses still does');

# who may not read is not told what was there
{
	my $chief = sub { in_session_state($node, 'clinic', 'chief', "SELECT apm_submit('told', '$_[0]')") };

	patient('told');
	submit('told', '{"blood": "A"}');
	is(($chief->('{"pulse": 9}'))[0], 'AP016', 'who may not read is told what is wrong with his record by itself');
	is(($chief->('{"blood": "B"}'))[0], '00000', 'and not that it differs from an earlier one');
	is(flags('told', 'blood'), 'A B:blood-constant', 'which is a flag');
}

# --- Amendments -------------------------------------------------------------------------------------------

patient('amended');
my ($wrong) = submit('amended', '{"blood": "A", "doses": 7, "pulse": 0.2}');
fails_in_session($node, 'clinic', 'doctor', qq{SELECT apm_submit('amended', '{"pulse": 9}', amends => '$wrong')},
	'AP016', qr/"pulse-plausible"/, 'an amendment is held to rules that look at it alone');
my $right = amends($wrong, 'amended', '{"blood": "B", "doses": 3}');
takes('amended', '{"blood": "B", "doses": 4}', 'it corrects what later records are compared with');
refuses('amended', '{"blood": "A"}', 'blood-constant', 'which no longer is what was wrong');
my $again = amends($right, 'amended', '{"blood": "AB", "doses": 0}');
refuses('amended', '{"blood": "AB"}', 'blood-constant', 'but not what others have said since');
my ($alone) = submit('amended', '{"pulse": 0.1, "steps": 5}');
amends($alone, 'amended', '{"pulse": 0.2}');
takes('amended', '{"steps": 1e35}', 'what an amendment leaves out was never said');

# --- What did not happen ----------------------------------------------------------------------------------

patient('undone');
in_session($node, 'clinic', 'doctor', q{BEGIN; SELECT apm_submit('undone', '{"doses": 50}'); ROLLBACK});
takes('undone', '{"doses": 10}', 'what was rolled back is not remembered');
in_session($node, 'clinic', 'doctor', q{BEGIN; SAVEPOINT s; SELECT apm_submit('undone', '{"doses": 50}'); ROLLBACK TO s;
	SELECT apm_submit('undone', '{"doses": 11}'); COMMIT});
refuses('undone', '{"doses": 10}', 'doses-grow', 'nor is a savepoint, and what came after is');
in_session($node, 'clinic', 'doctor', q{DO $$BEGIN PERFORM apm_submit('undone', '{"doses": 60}'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END$$});
takes('undone', '{"doses": 12}', 'nor an exception block');

# --- A contract that changes ------------------------------------------------------------------------------

{
	my $before = records();
	my $doctor = session('doctor');

	patient('change');
	$doctor->query_safe(q{SELECT apm_submit('change', '{"mood": 1}')});
	$doctor->query_safe(q{BEGIN; SELECT apm_submit('change', '{"mood": 2}')});
	rule('mood-good', 'mood', '{"range": [10, null]}');
	$doctor->query_safe('COMMIT');
	recorded($before + 2, 'a record that was held to the rules before is admitted for a while');
	like($doctor->query(q{SELECT apm_submit('change', '{"mood": 3}')}), qr/^$/, 'a session that was there learns of a new rule');
	like($doctor->{stderr}, qr/violates data rule "mood-good"/, 'by its name');
	$doctor->{stderr} = '';
	rule('mood-good', 'mood', '{"range": [3, null]}');
	$doctor->query_safe(q{SELECT apm_submit('change', '{"mood": 3}')});
	contract(q{apm_drop_data_rule('mood-good')});
	$doctor->query_safe(q{SELECT apm_submit('change', '{"mood": -3}')});
	recorded($before + 4, 'of one that was replaced, and of one that was dropped');
	$doctor->quit;
}

# --- Two sessions -----------------------------------------------------------------------------------------

{
	my $first = session('doctor');
	my $second = session('doctor');
	my $waiting = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'};

	patient('both');
	submit('both', '{"doses": 1}');
	$first->query_safe(q{BEGIN; SELECT apm_submit('both', '{"doses": 10}')});
	$second->query_until(qr/sent/, qq{\\echo sent\nSELECT apm_submit('both', '{"doses": 5}');\n});
	wait_for($node, 'clinic', $waiting, 'a second session for one patient waits');
	$first->query_safe('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/violates data rule "doses-grow"/, 'and sees what the first one said');
	$second->{stderr} = '';

	$first->query_safe(q{BEGIN; SELECT apm_submit('both', '{"doses": 20}')});
	$second->query_until(qr/sent/, qq{\\echo sent\nSELECT apm_submit('both', '{"doses": 15}');\n});
	wait_for($node, 'clinic', $waiting, 'it waits again');
	$first->query_safe('ROLLBACK');
	$second->query_safe('SELECT 1');
	is($second->{stderr}, '', 'what the first one took back does not count');

	$second->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()});
	submit('both', '{"doses": 30}');
	$second->query(q{\set VERBOSITY sqlstate
SELECT apm_submit('both', '{"doses": 31}')});
	like($second->{stderr}, qr/ERROR:  40001/, 'with an older snapshot it must begin anew');
	$second->{stderr} = '';
	$second->query_safe('ROLLBACK');
	$_->quit foreach ($first, $second);
}

# the same patients in whatever order
{
	my $names = join(', ', map { "('c$_')" } 1 .. 8);
	my $script = $node->basedir . '/both_ways.sql';

	patient("c$_") foreach (1 .. 8);
	open(my $file, '>', $script) or die;
	print $file qq{\\set way random(0, 1)
INSERT INTO apm.patient_record (pid, record) SELECT pid, '{"doses": 1}' FROM (VALUES $names) AS v (pid) ORDER BY CASE WHEN :way = 0 THEN pid END, pid DESC;\n};
	close($file);
	my ($out, $err);
	ok(IPC::Run::run([ "$bin/pgbench", '-n', '-c', 6, '-t', 15, '-f', $script, '-d', $node->connstr('clinic') . ' user=doctor' ],
			'<', \undef, '>', \$out, '2>', \$err), 'statements about the same patients in other orders do not block each other') or diag($err);
	unlike($err, qr/deadlock/, 'for good');
}

# --- Sensors ----------------------------------------------------------------------------------------------

{
	my $before = records();
	my $doctor = session('doctor');
	my $sensor = sub { in_session($node, 'clinic', 'monitor', "SELECT apm_submit('$_[0]', '$_[1]')") };

	patient('bed1');
	patient('bed2');
	$sensor->('bed1', '{"pulse": 0.2, "doses": 5}');
	recorded($before + 1, 'a sensor has submitted');
	$sensor->('bed1', '{"pulse": 9, "doses": 4}');
	recorded($before + 2, 'what a sensor submits is never refused');
	is(flags('bed1', 'pulse'), '0.2 9:doses-grow+pulse-plausible', 'but flagged');

	$doctor->query_safe(q{BEGIN; SELECT apm_submit('bed1', '{"doses": 6}')});
	$sensor->('bed1', '{"doses": 7}');
	$sensor->('bed2', '{"doses": 7}');
	wait_for($node, 'clinic', q{SELECT count(*) FROM apm.ledger_record AS r JOIN apm.submission USING (rid)}, 'a patient whose last values somebody holds keeps no other waiting', $before + 3);
	is($node->safe_psql('clinic', q{SELECT count(*) FROM apm.waiting WHERE reason = 'new'}), '1', 'his own record is left aside');
	$doctor->query_safe('COMMIT');
	recorded($before + 5, 'until he is free');
	is(flags('bed1', 'doses'), '5 4:doses-grow+pulse-plausible 6 7', 'and it is held to what came before it');

	# what waited for its patient is older than what was recorded meanwhile
	$sensor->('bed3', '{"doses": 30, "pulse": 7}');
	wait_for($node, 'clinic', q{SELECT count(*) FROM apm.waiting WHERE reason = 'patient'}, 'a record waits for its patient', '1');
	$node->safe_psql('clinic', q{BEGIN; SET LOCAL ROLE clerk; SELECT apm_register_patient('bed3', '{"Firstname": "F"}');
		SET LOCAL ROLE doctor; SELECT apm_submit('bed3', '{"doses": 40}'); COMMIT});
	recorded($before + 7, 'he is registered, and has a record already');
	is(join(' ', sort split(/ /, flags('bed3', 'doses'))), '30:pulse-plausible+late 40', 'what waited is late, not held to what came after, and not refused');
	refuses('bed3', '{"doses": 35}', 'doses-grow', 'nor does it count as the last word');
	$doctor->quit;
}

# --- Times of their own -----------------------------------------------------------------------------------

{
	my $before = records();

	patient('timed');
	rule('flow-slow', 'flow', '{"rate": {"most": 60, "per": "hour"}}', 'flag');
	$node->safe_psql('clinic', q{CREATE TABLE visit (id integer PRIMARY KEY, mrn text, at timestamptz, flow numeric);
		GRANT INSERT ON visit TO doctor; SELECT apm_attach('visit', 'mrn', 'at')});
	in_session($node, 'clinic', 'doctor', q{INSERT INTO visit (id, mrn, at, flow)
		SELECT n, 'timed', now() - make_interval(mins => ago), flow
		FROM (VALUES (1, 50, 0), (2, 20, 30), (3, 19, 31.0000001), (4, 30, 1000), (5, 90, 2000), (6, 9, 40)) AS v (n, ago, flow)});
	recorded($before + 6, 'rows with times of their own');
	is(flags('timed', 'flow'), '0 30 31.0000001:flow-slow 1000:late 2000:late 40',
		'are held to a rate by those, exactly; what comes out of order is late');
	in_session($node, 'clinic', 'doctor', q{INSERT INTO visit VALUES (7, 'timed', '-infinity', 1), (8, 'timed', 'infinity', 50), (9, 'timed', NULL, 51)});
	recorded($before + 9, 'whatever the times');
	like(flags('timed', 'flow'), qr/ 1:late 50:flow-slow 51:flow-slow$/, 'the end of time is now');
}

# --- Public fields ----------------------------------------------------------------------------------------

{
	my $before = records();
	my $refused = sub {
		fails_in_session($node, 'clinic', 'doctor', "SELECT apm_submit('public', '$_[0]')", '22023', qr/lacks a public field/, $_[1]);
	};

	patient('public', '{"ward": "icu"}');
	contract(q{apm_add_template('visit', 'primary', '{"ward": {"type": "code", "codes": ["icu", "er"], "required": true},
		"age": {"type": "integer", "least": 0, "most": 120}}')});
	$refused->('{"age": 3}', 'a record without a field that must be there is refused at once');
	$refused->('{"ward": "morgue"}', 'with another value of it, too');
	takes('public', '{"ward": "er", "age": 1000, "secret_word": 1}', 'what fits is taken');
	contract(q{apm_add_rule('er-only', 'primary', '{"eq": [{"public": "ward"}, "er"]}')});
	my ($icu) = submit('public', '{"ward": "icu", "age": 40}');
	poll($node, 'clinic', "SELECT count(*) = 1 FROM apm.final_transaction JOIN apm.submission USING (tid) WHERE rid = '$icu'") or die;
	is($node->safe_psql('clinic', "SELECT rule FROM apm.refused JOIN apm.submission USING (tid) WHERE rid = '$icu'"), 'er-only',
		'and public, so that a rule of the contract can ask for it');
	contract(q{apm_drop_rule('er-only')});
	contract(q{apm_drop_template('visit')});
	recorded($before + 1, 'the record itself stays');
}

# --- Nothing is readable ----------------------------------------------------------------------------------

patient('canary', '{}');
rule('secret-constant', 'secret', '{"constant": true}');
takes('canary', qq({"secret": "$canary"}), 'a value that would be found');
refuses('canary', qq({"secret": "$canary-other"}), 'secret-constant', 'is remembered');
$node->safe_psql('clinic', qq{CREATE TABLE public.control (v bytea); INSERT INTO public.control VALUES ('$canary')});
my ($plain, $err);
IPC::Run::run([ "$bin/pg_dump", '-d', $node->connstr('clinic') ], '>', \$plain, '2>', \$err) or die $err;
my $hex = unpack('H*', $canary);
is(scalar(() = $plain =~ /\Q$canary\E|$hex/g), 1, 'in a dump of all tables it is found where it was planted only');
unlike(slurp_file($node->logfile), qr/\Q$canary\E|0\.3000000/, 'and no value is in the log');
fails_with($node, 'clinic', 'SELECT * FROM apm.last_value', '42501', qr/permission denied/, 'nobody reads last values', $_) foreach qw(doctor chief clerk);

# --- A crash ----------------------------------------------------------------------------------------------

patient('crash');
submit('crash', '{"doses": 10}');
{
	my $doctor = session('doctor');

	$doctor->query_safe(q{BEGIN; SELECT apm_submit('crash', '{"doses": 90}')});
	$node->stop('immediate');
	$node->start;
	eval { $doctor->quit };
}
refuses('crash', '{"doses": 9}', 'doses-grow', 'what was committed is remembered across a crash');
takes('crash', '{"doses": 11}', 'what was not is not');
recorded(records() - 1, 'every record that was acknowledged is on the ledger');
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.refused'), '1', 'but for the one that the contract was to refuse');

# --- What the contract refuses -------------------------------------------------------------------------------

patient('refused');
takes('refused', '{"doses": 1}', 'a value');
contract(q{apm_add_rule('short', 'primary', '{"lt": [{"field": "size"}, 1500]}')});
submit('refused', '{"doses": 1000, "padding": "' . 'x' x 3000 . '"}');
wait_for($node, 'clinic', q{SELECT count(*) FROM apm.refused WHERE rule = 'short'}, 'a record that a rule of the chain refuses', '1');
contract(q{apm_drop_rule('short')});
takes('refused', '{"doses": 2}', 'is not what later ones are measured by');
refuses('refused', '{"doses": 1}', 'doses-grow', 'but by those that were admitted');

$node->stop;
done_testing();
