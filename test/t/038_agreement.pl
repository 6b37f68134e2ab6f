# Three verifiers agree: apm_verify() on the server, apm-verify on an exported ledger, and the one in Python that was
# written from doc/format.md alone.  On a ledger of a hundred blocks of a hospital's life each bit of everything stored, rows and
# blocks as a whole, and tails are altered, on the exported ledger and by a superuser with the guards off; each
# alteration is found, and all three name the same height, position and check.  Of random ledgers, in which rules meet
# that seldom do, the two outside the server say the same as well.  The examples in test/vectors and in doc/format.md
# are what the Python verifier reads them as.
#
# APM_STRIDE says how many bits apart the alterations are (9; 1 is every bit), APM_ALTERATIONS how many are made on the server,
# how many random ledgers there are, and half as many as digests and proofs (150).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $stride = $ENV{APM_STRIDE} // 9;
my $alterations = $ENV{APM_ALTERATIONS} // 150;
my $blocks = 100;
my $python = "$FindBin::RealBin/../python";
my $vectors = "$FindBin::RealBin/../vectors";
my $apm_verify = "$FindBin::RealBin/../../contrib/apm-verify/apm-verify";
my $node = apm_node('hospital', setup => 0);
my $directory = $node->basedir;
my ($ledger, $digest) = ("$directory/ledger", "$directory/digest");

sub sql { return query($node, 'clinic', @_) }

# Runs a program; its exit status and its output.
sub run_program
{
	my (@command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($? >> 8, "$out$err");
}

# The same of a program of the Python side, whose numbers are worth showing.
sub python
{
	my ($program, @arguments) = @_;
	my ($status, $out) = run_program("$python/$program", @arguments);

	note $out;
	return $status;
}

# What apm-verify says of a ledger, as height|position|check, or good.
sub told_by_apm_verify
{
	my ($file, @digest) = @_;
	my (undef, $out) = run_program($apm_verify, 'ledger', $file, @digest);

	return "$1|" . ($2 // '') . "|$3" if $out =~ /^fault: height (\d+)(?:, position (\d+))?, (\w+):/;
	return $out =~ /^ok: / ? 'good' : $out;
}

# Files of a directory for which apm-verify says something else than expected.
sub differing
{
	my ($place, @digest) = @_;
	my ($count, @differ) = (0);

	foreach my $line (split /\n/, slurp_file("$place/expected"))
	{
		my ($file, $expected) = split /\|/, $line, 2;
		my $told = told_by_apm_verify("$place/$file", @digest);

		$count++;
		push @differ, "$file: $expected by Python, $told by apm-verify" if $told ne $expected;
		unlink "$place/$file" if $told eq $expected;
	}
	note "$count ledgers given to apm-verify";
	return $count > 0 ? join("\n", @differ) : 'no ledger';
}

# The same for digests and proofs, of which the exit status is compared.
sub differing_proofs
{
	my ($place) = @_;
	my @differ;

	foreach my $line (split /\n/, slurp_file("$place/expected"))
	{
		my ($file, $vector, $expected) = split /\|/, $line;
		my ($command) = $vector =~ /^(proof|digest|consistency)/;
		my %digests = (
			proof => [ '--digest', "$vectors/digest.json" ],
			digest => [],
			consistency => [ '--old', "$vectors/old-digest.json", '--new', "$vectors/digest.json" ]);
		my ($status) = run_program($apm_verify, $command, "$place/$file", @{ $digests{$command} });

		push @differ, "$file, of $vector: $expected by Python, $status by apm-verify" if $status != $expected;
	}
	return join("\n", @differ);
}

# --- the examples
is(python('check_vectors.py', $vectors), 0, 'the Python verifier reads the vectors');
is(python('worked_example.py', "$vectors/ledger.txt", "$FindBin::RealBin/../../doc/format.md"), 0,
	'the worked example is a block of theirs');
is(python('apm_verifier.py', 'proof', "$vectors/$_", '--digest', "$vectors/digest.json"), 0, "$_ holds for Python")
  foreach qw(proof-record.json proof-refused-query.json);

mkdir "$directory/proofs" or die $!;
is(python('altered_proofs.py', 1, 2 * $alterations, $vectors, "$directory/proofs"), 0, 'digests and proofs are altered');
is(differing_proofs("$directory/proofs"), '', 'apm-verify finds good, faulty and unreadable what Python does');

# --- ledgers of random transactions
mkdir "$directory/random" or die $!;
is(python('altered_ledgers.py', 1, $alterations, "$directory/random"), 0, 'random ledgers are made and altered');
is(differing("$directory/random"), '', 'apm-verify finds in them what Python does');

# --- a hospital's life
sql('SELECT apm_setup(8)');
sql(q(
	CREATE ROLE clerk LOGIN IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;
	CREATE ROLE nurse LOGIN IN ROLE apm_clinician; CREATE ROLE chief LOGIN IN ROLE apm_admin;
	CREATE ROLE auditor LOGIN IN ROLE apm_auditor; CREATE ROLE scholar LOGIN IN ROLE apm_researcher;
	CREATE FUNCTION tries(sql text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN EXECUTE sql; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END $$));
my $drained = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue)
	AND NOT EXISTS (SELECT FROM apm.candidate));

sub as { my ($role, $sql) = @_; return in_session($node, 'clinic', $role, $sql) }
sub settle { poll($node, 'clinic', $drained) or die 'what was submitted does not become final' }

# A read, allowed or refused: a block of its own.
sub reads { return as($_[0], "SELECT tries(\$q\$SELECT count(*) FROM $_[1]\$q\$)") }

as('chief', q(SELECT apm_declare_attribute('pulse', 'other', searchable => true, exportable => true)));
as('clerk', q(SELECT apm_register_patient('p' || n, '{"Firstname": "Amina"}') FROM generate_series(1, 6) AS n));
as('doctor', q(SELECT apm_submit('p' || n, jsonb_build_object('pulse', 60 + n)) FROM generate_series(1, 6) AS n));
settle();
as('chief', q(SELECT apm_add_purpose('teaching'); SELECT apm_add_reason('power-cut'); SELECT apm_set_policy('fetch_cap', '50');
	SELECT apm_add_rule('few', 'query', '{"or": [{"in": [{"field": "scope"}, ["emergency", "export"]]}, {"lt": [{"count": "patient.queries", "within": 3600}, 14]}]}');
	SELECT apm_add_data_rule('pulse-range', 'pulse', '{"range": [0, 300]}', 'flag');
	SELECT apm_add_template('shift', 'consent', '{"shift": {"type": "integer", "least": 1, "most": 3}}')));
settle();
my $first = as('doctor', q(SELECT apm_submit('p1', '{"pulse": 500}')));
settle();
as('doctor', qq(SELECT apm_submit('p1', '{"pulse": 71}', amends => '$first')));
as('clerk', q(SELECT apm_revoke_access('p2'); SELECT apm_grant_access('p2', 'nurse', purpose => 'treatment', fields => '{"shift": 2}');
	SELECT apm_update_patient('p3', '{"Firstname": "Zohra"}')));
settle();
reads('doctor', q(apm_break_glass('p1', 'unconscious', 'brought in by ambulance')));
reads('doctor', q(apm_search('{"pulse": 63}')));
reads('scholar', q(apm_export('hearts', '{pulse}')));
reads('auditor', q(apm_access_history('p1', 'audit')));
my $emergency = sql('SELECT tid FROM apm.ledger_query WHERE scope = 6');
reads('auditor', "apm_break_glass_note('$emergency')");
as('auditor', "SELECT apm_review_break_glass('$emergency', true)");
settle();
reads($_->[0], "apm_fetch('$_->[1]', 'treatment')")
  foreach ([ 'doctor', 'p1' ], [ 'doctor', 'p2' ], [ 'nurse', 'p2' ], [ 'auditor', 'p3' ], [ 'scholar', 'p4' ]);
foreach my $kind (qw(node-signing apm-signing))
{
	sql("SELECT apm_rotate_key('$kind')");
	settle();
	reads('doctor', q(apm_fetch('p4')));
}
as('doctor', q(SELECT apm_submit('p6', '{"pulse": 80}')));
settle();
as('clerk', q(SELECT apm_forget('p6', 'objection')));
wait_for($node, 'clinic', q(SELECT bool_and(state = 'done') FROM apm.erasure_request), 'a patient is forgotten');
reads('doctor', q(apm_fetch('p6')));
for (my $n = 0; $n < $blocks && sql('SELECT count(*) FROM apm.block') < $blocks; $n++)
{
	reads($n % 3 ? 'doctor' : 'nurse', sprintf("apm_fetch('p%d', 'treatment')", $n % 5 + 1));
}
settle();
$node->safe_psql('postgres', q(ALTER SYSTEM SET apm.databases = '')); # the ledger stands still from here on
$node->reload;
wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'apm miner'), 'nothing is mined any more');
cmp_ok(sql('SELECT count(*) FROM apm.block'), '>=', $blocks, 'so many blocks');
note sql(q(SELECT kind || ' ' || coalesce(rule, verdict) || ': ' || count(*) FROM apm.ledger GROUP BY kind, rule, verdict ORDER BY 1));

sql("COPY (SELECT apm_export_ledger()) TO '$ledger'; COPY (SELECT apm_digest()) TO '$digest'");
is(sql('SELECT ok, erased > 0, not_rerun FROM apm_verify()'), 't|t|0', 'the server finds its ledger good');
is(told_by_apm_verify($ledger, '--digest', $digest), 'good', 'and so does apm-verify');
is(python('apm_verifier.py', 'ledger', $ledger, '--digest', $digest), 0, 'and Python');

# --- alterations of the exported ledger
mkdir "$directory/altered" or die $!;
is(python('agreement.py', 'try', $ledger, $digest, $stride, "$directory/altered", $stride == 1 ? 5003 : 503), 0,
	'Python finds each alteration of the exported ledger');
is(differing("$directory/altered", '--digest', $digest), '', 'apm-verify finds the same in every so many-th');

# --- alterations on the server, which is asked itself and exports what it then has
mkdir "$directory/tampered" or die $!;
sql(q(
	CREATE FUNCTION flipped(value text, type text, nth bigint) RETURNS text LANGUAGE sql AS $$
		SELECT CASE type
			WHEN 'bytea' THEN set_bit(value::bytea, nth % (8 * length(value::bytea)), 1 - get_bit(value::bytea, nth % (8 * length(value::bytea))))::text
			WHEN 'uuid' THEN encode(set_bit(decode(replace(value, '-', ''), 'hex'), nth % 128, 1 - get_bit(decode(replace(value, '-', ''), 'hex'), nth % 128)), 'hex')
			WHEN 'smallint' THEN (value::int # (1 << (nth % 15)::int))::text
			WHEN 'integer' THEN (value::bigint # (1::bigint << (nth % 31)::int))::text
			ELSE (value::bigint # (1::bigint << (nth % 62)::int))::text END $$;
	CREATE TABLE alteration (id serial, change text);
	-- bits of columns, of rows all over the ledger
	INSERT INTO alteration (change) SELECT format('UPDATE apm.%1$I SET %2$I = flipped(%2$I::text, %3$L, %4$s)::%3$s
			WHERE ctid = (SELECT ctid FROM apm.%1$I ORDER BY %5$s OFFSET %6$s %% (SELECT count(*) FROM apm.%1$I) LIMIT 1)',
			tab, col, type, n * 7919 + 11, key, n * 37 + 5)
		FROM (VALUES ('block', 'hash', 'bytea', 'height'), ('block', 'height', 'bigint', 'height'), ('block', 'header', 'bytea', 'height'),
			('block', 'signature', 'bytea', 'height'), ('leaf', 'position', 'integer', 'block, position'), ('leaf', 'tid', 'uuid', 'block, position'),
			('leaf', 'kind', 'smallint', 'block, position'), ('leaf', 'rule', 'smallint', 'block, position'), ('leaf', 'leaf', 'bytea', 'block, position'),
			('body', 'tid', 'uuid', 'tid'), ('body', 'nonce', 'bytea', 'tid'), ('body', 'transaction', 'bytea', 'tid'), ('body', 'proof', 'bytea', 'tid'))
			AS c(tab, col, type, key),
			generate_series(0, current_setting('apm_test.alterations')::int / 15) AS n;
	-- rows and blocks
	INSERT INTO alteration (change) SELECT format(change, h) FROM (VALUES
		('UPDATE apm.leaf SET position = 1 - position WHERE block IN (SELECT hash FROM apm.block WHERE height = %s) AND position < 2'),
		('DELETE FROM apm.leaf WHERE position = 0 AND block = (SELECT hash FROM apm.block WHERE height = %s)'),
		('DELETE FROM apm.body WHERE tid IN (SELECT tid FROM apm.leaf JOIN apm.block ON block = hash WHERE height = %s)'),
		('INSERT INTO apm.leaf SELECT block, position + 1, tid, kind, rule, leaf FROM apm.leaf WHERE block = (SELECT hash FROM apm.block WHERE height = %s) ORDER BY position DESC LIMIT 1'),
		('DELETE FROM apm.block WHERE height = %s'),
		('INSERT INTO apm.block SELECT sha256(hash), height, header, signature FROM apm.block WHERE height = %s'),
		('UPDATE apm.block SET header = overlay(header PLACING sha256(header) FROM 43) WHERE height = %1$s;
		  UPDATE apm.leaf SET block = (SELECT sha256(sha256(header)) FROM apm.block WHERE height = %1$s) WHERE block = (SELECT hash FROM apm.block WHERE height = %1$s);
		  UPDATE apm.block SET hash = sha256(sha256(header)) WHERE height = %1$s'),
		('DELETE FROM apm.leaf WHERE block IN (SELECT hash FROM apm.block WHERE height > %1$s); DELETE FROM apm.block WHERE height > %1$s')) AS c(change),
		generate_series(0, 90, 30) AS h;
	CREATE FUNCTION tamper(change text, file text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			told text;
		BEGIN
			BEGIN
				EXECUTE change;
				EXECUTE format('COPY (SELECT apm_export_ledger()) TO %L', file);
				SELECT CASE WHEN ok THEN 'good' ELSE concat(height, '|', "position", '|', rule) END INTO told FROM apm_verify();
				RAISE EXCEPTION USING ERRCODE = 'UND00';
			EXCEPTION
				WHEN SQLSTATE 'UND00' THEN RETURN told;
				WHEN check_violation OR unique_violation THEN RETURN NULL;
			END;
		END $$) =~ s/current_setting\('apm_test.alterations'\)/'$alterations'/r);
append_to_file("$directory/tampered/told", sql("BEGIN; " . guards_off() . qq(
	SELECT concat_ws('|', id || '.ledger', told)
	FROM (SELECT id, tamper(change, '$directory/tampered/' || id || '.ledger') AS told FROM alteration ORDER BY id) AS t WHERE told IS NOT NULL;
	ROLLBACK)) . "\n");
is(python('agreement.py', 'compare', "$directory/tampered", $digest), 0, 'the server finds what Python finds of what it then exports');
copy_expected("$directory/tampered");
is(differing("$directory/tampered"), '', 'and apm-verify');

# What the server said, but for what only the server can say, is what is expected of apm-verify.
sub copy_expected
{
	my ($place) = @_;
	my @lines = grep { !/\|(derived|profile|tip|row|digest)$/ } split /\n/, slurp_file("$place/told");

	append_to_file("$place/expected", join('', map { "$_\n" } @lines));
	return;
}

done_testing();
