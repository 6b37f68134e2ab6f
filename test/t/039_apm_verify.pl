# apm-verify checks what a server gave out: digests, proofs and the whole ledger, with an erased patient in it; and it
# finds what apm_verify() finds of what was done to the ledger behind the guards' backs, at the same place and by the
# same name.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', setup => 0);
my $files = PostgreSQL::Test::Utils::tempdir();
my $settled = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue));

sub sql { return query($node, 'clinic', @_) }
sub as { my ($role, $sql) = @_; return in_session($node, 'clinic', $role, $sql) }

sub save
{
	my ($name, $sql) = @_;
	my $text = $node->safe_psql('clinic', $sql);

	PostgreSQL::Test::Utils::append_to_file("$files/$name", "$text\n");
	return $text;
}

# The program's exit status and its line.
sub run_program
{
	my (@arguments) = @_;
	my ($out, $err) = ('', '');

	chdir $files or die $!;
	IPC::Run::run([ 'apm-verify', @arguments ], '>', \$out, '2>', \$err);
	chomp $out;
	return ($? >> 8, $out, $err);
}

sub answers
{
	my ($arguments, $status, $line, $name) = @_;
	my ($got, $out, $err) = run_program(split ' ', $arguments);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $status, "$name: exit status") or diag("$out$err");
	return like($out, $line, $name);
}

# --- a ledger
$node->safe_psql(
	'clinic', q(
	SELECT apm_setup(8);
	CREATE ROLE clerk LOGIN IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;
	CREATE ROLE scholar LOGIN IN ROLE apm_researcher;));
as('clerk', "SELECT apm_register_patient('p$_', '{\"Firstname\": \"Name of p$_\"}')") for 1 .. 3;
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.ledger_patient', 'patients are registered');
my $early = save('early.json', 'SELECT apm_digest()');
my $rid = '019d0000-0000-7000-8000-000000000001';
as('doctor', "SELECT apm_submit('p1', '{\"pulse\": 70}', '$rid')");
as('doctor', "SELECT apm_submit('p2', '{\"pulse\": $_}')") for 1 .. 3;
wait_for($node, 'clinic', 'SELECT count(*) = 4 FROM apm.ledger_record', 'records are in the ledger');
as('scholar', q(DO $$ BEGIN PERFORM * FROM apm_fetch('p1', 'treatment'); EXCEPTION WHEN OTHERS THEN NULL; END $$));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.ledger WHERE verdict = 'refused' AND kind = 'query'), 'a query is refused');
my $request = as('clerk', q(SELECT apm_forget('p2', 'consent-withdrawn')));
wait_for($node, 'clinic', "SELECT state = 'done' FROM apm.erasure_request WHERE id = '$request'", 'a patient is forgotten');
as('doctor', q(SELECT apm_submit('p3', '{"pulse": 80}')));
wait_for($node, 'clinic', 'SELECT count(*) = 2 FROM apm.ledger_record', 'a record behind the erasure is in the ledger');
wait_for($node, 'clinic', $settled, 'all is in the ledger');

# --- what the server gives out is good
my ($height, $blocks, $transactions, $refused, $erased) =
  split /\|/, sql('SELECT blocks - 1, blocks, transactions, not_rerun, erased FROM apm_verify() WHERE ok');
is($erased, 4, 'a registration and three records are erased');
my $head = sql('SELECT apm_digest()->>$q$hash$q$');
save('tip.json', 'SELECT apm_digest()');
save('ledger', 'SELECT apm_export_ledger()');
save('proof.json', "SELECT apm_prove('$rid')");
save('old.json', "SELECT apm_prove('$rid', apm_digest())");
save('read.json', q(SELECT apm_prove_read((SELECT tid FROM apm.ledger WHERE verdict = 'refused' AND kind = 'query'))));
save('growth.json', "SELECT apm_prove_consistency('$early')");
answers('digest tip.json', 0, qr/^ok: height $height of chain [0-9a-f]{64} at .*Z, hash $head, signed by node/, 'the digest');
answers('proof proof.json --digest tip.json', 0, qr/^ok: transaction \S+, a valid primary of record $rid, stands at height /,
	'a proof of a record');
answers('proof read.json --digest tip.json', 0, qr/^ok: transaction \S+, a query refused by rule \w+, stands at height /,
	'a proof of a query that was refused');
answers('proof proof.json --digest early.json', 2, qr/^$/, 'a proof that leads to another digest');
answers('consistency growth.json --old early.json --new tip.json', 0, qr/^ok: chain .* has grown/, 'a proof of growth');
answers('consistency growth.json --old tip.json --new early.json', 2, qr/^$/, 'the same the wrong way round');
my $good = qr/^ok: chain [0-9a-f]{64}, $blocks blocks, $transactions transactions; not judged again: $refused refused, $erased erased; /;
answers('ledger ledger --digest tip.json', 0, qr/${good}has the digest of height $height$/, 'the exported ledger');
answers('ledger ledger --digest early.json', 0, qr/${good}has the digest of height/, 'the exported ledger, against an earlier digest');

# --- what is wrong is found, as by the server
sub agree_on
{
	my ($change, $rule, $name) = @_;
	my ($found, @lines) = split /\n/, sql('BEGIN; ' . guards_off() . " $change;
		SELECT concat_ws('|', 'height ' || height, 'position ' || position, rule) FROM apm_verify() WHERE NOT ok;
		SELECT apm_export_ledger(); ROLLBACK");
	my ($said) = (run_program_on(@lines))[1] =~ /^fault: (.*?): /;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($found // '', qr/(^|\|)$rule$/, "$name: apm_verify()");
	return is(join('|', split /, /, $said // ''), $found // '', "$name: apm-verify");
}

sub run_program_on
{
	my (@lines) = @_;

	unlink "$files/changed";
	PostgreSQL::Test::Utils::append_to_file("$files/changed", join('', map { "$_\n" } @lines));
	return run_program('ledger', 'changed');
}

my $record = "(SELECT tid FROM apm.ledger_record WHERE rid = '$rid')";
my $void = '(SELECT tid FROM apm.ledger_void WHERE kind = 2 ORDER BY height, position LIMIT 1)';
my $erasure = '(SELECT erasure FROM apm.ledger_void LIMIT 1)';
my $last = "height = $height";
agree_on("UPDATE apm.block SET header = " . flip('header', 200) . " WHERE $last", 'hash', 'a changed header');
agree_on("UPDATE apm.block SET hash = " . flip('hash', 3) . " WHERE $last", 'hash', 'a changed hash');
agree_on("UPDATE apm.block SET signature = " . flip('signature', 5) . " WHERE $last", 'signature', 'a changed signature');
agree_on('DELETE FROM apm.block WHERE height = 2', 'height', 'a missing block');
agree_on('UPDATE apm.block SET height = 5 - height WHERE height IN (2, 3)', '(height|hash)', 'two blocks in each other\'s place');
agree_on("UPDATE apm.leaf SET leaf = " . flip('leaf', 9) . " WHERE tid = $record", 'leaf', 'a changed leaf');
agree_on("UPDATE apm.leaf SET kind = 1 WHERE tid = $record", 'kind', 'a changed kind');
agree_on("UPDATE apm.leaf SET rule = 999 WHERE tid = $record", 'rule', 'a rule that there is not');
agree_on("UPDATE apm.leaf SET rule = 5 WHERE tid = $record", 'unwanted', 'another verdict');
agree_on("UPDATE apm.leaf SET position = position + 7 WHERE tid = $record", 'position', 'a changed position');
agree_on("UPDATE apm.body SET transaction = " . flip('transaction', 60) . " WHERE tid = $record", 'leaf', 'a changed transaction');
agree_on("UPDATE apm.body SET nonce = " . flip('nonce', 0) . " WHERE tid = $record", 'leaf', 'a changed nonce');
agree_on("ALTER TABLE apm.body DROP CONSTRAINT body_nonce; UPDATE apm.body SET nonce = substr(nonce, 2) WHERE tid = $record", 'body', 'a shorter nonce');
agree_on("UPDATE apm.body SET proof = " . flip('proof', 20) . " WHERE tid = $record", 'verdict', 'a changed signature of the origin');
agree_on("UPDATE apm.body SET proof = '\\x00' WHERE tid = $record", 'kind', 'a proof that cannot be read');
agree_on("DELETE FROM apm.body WHERE tid = $record", 'missing', 'a body that nothing erased');
agree_on("DELETE FROM apm.leaf WHERE tid = $record", '(position|count)', 'a missing leaf');
agree_on("UPDATE apm.leaf SET leaf = " . flip('leaf', 9) . " WHERE tid = $void", 'missing', 'a changed leaf of what is erased');
agree_on("UPDATE apm.leaf SET kind = 1 WHERE tid = $void", 'kind', 'a changed kind of what is erased');
agree_on("INSERT INTO apm.body (tid, nonce, transaction, proof) SELECT $void, nonce, transaction, proof FROM apm.body WHERE tid = $record",
	'unwanted', 'a body for what is erased');
agree_on("UPDATE apm.body SET transaction = " . flip('transaction', 90) . " WHERE tid = $erasure", 'missing', 'a changed erasure');

# --- what only the digest finds
my @lines = split /\n/, slurp_file("$files/ledger");
pop @lines;
my ($status) = run_program_on(@lines);
is($status, 0, 'a ledger without its last block is good by itself');
answers('ledger changed --digest tip.json', 1, qr/^fault: height $height, digest: /, 'the digest finds that it was cut off');
answers('ledger changed --digest early.json', 0, qr/^ok: /, 'an earlier digest does not');

# --- nothing of PostgreSQL is in it
my ($libraries) = run_command([ 'ldd', $node->config_data('--bindir') . '/apm-verify' ]);
unlike($libraries, qr/libpq|postgres/, 'apm-verify needs no library of PostgreSQL');

$node->stop;
done_testing();
