# Searching: records are found by blind tokens, through the ledger and the cloud, and nobody
# learns more than the contract lets him.
#
# Two installations, a hospital whose cloud is another server and a clinic of its own, so that
# their tokens can be compared.  What the cloud can do to tokens and rows is done to it, and
# found.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->append_conf('postgresql.conf', q(log_statement = 'all'));
$cloud->start;
$cloud->safe_psql('postgres', q(
	CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL);
	CREATE INDEX ON ehr USING gin (tokens) WHERE tokens <> '{}'));

my $node = apm_node('hospital');
my $other = apm_node('other');
my $searchable = q(SELECT apm_declare_attribute(a, 'other', searchable => true) FROM unnest(ARRAY['Diagnosis', 'Suspected', 'Level', 'Smoker', 'Gender']) AS a);
my $people = q(
	CREATE ROLE desk; GRANT apm_registrar TO desk;
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE scholar; GRANT apm_researcher TO scholar;
	CREATE ROLE meter; GRANT apm_sensor TO meter;
	CREATE ROLE chief; GRANT apm_admin TO chief;);

attach_cloud($node, $cloud);
foreach my $server ($node, $other)
{
	$server->safe_psql('clinic', "$people $searchable");
	query($server, 'clinic', q(SELECT apm_register_patient('p' || n, jsonb_build_object('Firstname', 'First' || n, 'Lastname', 'Last'),
			CASE WHEN n <= 2 THEN '{"Gender": "Female"}' ELSE '{"Gender": "Male"}' END::jsonb) FROM generate_series(1, 4) AS n), 'desk');
}

# --- what is found ------------------------------------------------------------------------------

my %rid;
submit('one', 'p1', '{"Diagnosis": "Sarcoidosis", "Level": 1, "Smoker": true, "Note": "a"}');
submit('two', 'p1', '{"Diagnosis": "Asthma", "Level": 1.0, "Smoker": false}');
submit('three', 'p2', '{"Diagnosis": "Sarcoidosis", "Level": 1.50, "Suspected": "Asthma"}');
submit('four', 'p3', '{"Diagnosis": "M\u00e9ni\u00e8re", "Level": "1", "Smoker": true}');
submit('five', 'p4', '{"Diagnosis": "Me\u0301nie\u0300re", "Level": 1e2, "Gender": "Female"}');
submit('six', 'p4', '{"Diagnosis": null, "Level": [1], "Suspected": {"Level": 1}}');
submit('seven', 'p4', '"Sarcoidosis"');

finds('{"Diagnosis": "Sarcoidosis"}', [qw(one three)], 'a text, of two patients');
finds('{"Diagnosis": "sarcoidosis"}', [], 'not another text');
finds('{"Level": 1}', [qw(one two)], 'a number');
finds('{"Level": 1.00}', [qw(one two)], 'the same number with zeros behind it');
finds('{"Level": 100}', [qw(five)], 'the same number with an exponent');
finds('{"Level": 1.5}', [qw(three)], 'a fraction');
finds('{"Level": "1"}', [qw(four)], 'a text that looks like a number is none');
finds('{"Smoker": true}', [qw(one four)], 'a boolean');
finds('{"Smoker": false}', [qw(two)], 'the other boolean');
finds('{"Diagnosis": "M\u00e9ni\u00e8re"}', [qw(four five)], 'a text in NFC and its twin in NFD, by the one');
finds('{"Diagnosis": "Me\u0301nie\u0300re"}', [qw(four five)], 'and by the other');
finds('{"Diagnosis": "Sarcoidosis", "Level": 1}', [qw(one)], 'two attributes at once');
finds('{"Diagnosis": "Asthma", "Level": 1, "Smoker": false}', [qw(two)], 'three attributes at once');
finds('{"Diagnosis": "Sarcoidosis", "Smoker": false}', [], 'each value in some record, both in none');
finds('{"Suspected": "Asthma"}', [qw(three)], 'an attribute, not another with that value');
finds('{"Gender": "Female"}', [qw(one two three five)], q(an attribute of the patient's profile, which is part of the record, or the record's own));

is(query($node, 'clinic', q(SELECT string_agg(concat_ws(' ', pid, record->>'Firstname', record->>'Note', flags::text), ',') FROM apm_search('{"Level": 1, "Smoker": true}')), 'doctor'),
	'p1 First1 a {}', 'what comes back is the patient, the record and its flags');
ok(query($node, 'clinic', q(SELECT bool_and(s.record = f.record AND s.recorded_at = f.recorded_at)
		FROM apm_search('{"Diagnosis": "Sarcoidosis"}') AS s CROSS JOIN LATERAL (SELECT * FROM apm_fetch(s.pid) AS f WHERE f.rid = s.rid) AS f), 'doctor') eq 't',
	'the same that a fetch gives');

submit('eight', 'p2', '{"Diagnosis": "Tuberculosis"}', 'three');
finds('{"Diagnosis": "Sarcoidosis"}', [qw(one)], 'an amended record is not found by its old value');
finds('{"Diagnosis": "Tuberculosis"}', [qw(eight)], 'but by its new one');
finds('{"Suspected": "Asthma"}', [], 'nor by a value that it does not have any more');

# --- what is not a search -----------------------------------------------------------------------

fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Note": "a"}')), '22023', qr/not declared searchable.*apm_declare_attribute/s, 'an attribute that is not declared', 'doctor');
fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Firstname": "First1"}')), '22023', qr/not declared searchable/, 'one that identifies', 'doctor');
foreach my $value ('null', '[1]', '{"a": 1}')
{
	fails_with($node, 'clinic', qq(SELECT * FROM apm_search('{"Level": $value}')), '22023', qr/cannot be searched for/, "a value that has no token: $value", 'doctor');
}
fails_with($node, 'clinic', "SELECT * FROM apm_search('$_')", '22023', qr/must be an object/, "a filter that is none: $_", 'doctor') foreach ('{}', '[]', '"a"', 'null');
fails_with($node, 'clinic', 'SELECT * FROM apm_search(NULL)', '22004', qr/must not be null/, 'no filter', 'doctor');
fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Level": 1}', 'curiosity')), '22023', qr/purpose/, 'a purpose that is not on the list', 'doctor');
$node->safe_psql('clinic', q(SELECT apm_declare_attribute('a' || n, 'other', searchable => true) FROM generate_series(1, 65) AS n));
fails_with($node, 'clinic', q(SELECT * FROM apm_search((SELECT jsonb_object_agg('a' || n, n) FROM generate_series(1, 17) AS n))), '54000', qr/more than 16 searchable/, 'too many values', 'doctor');
finds('{"a1": 1, "a2": 2, "a3": 3, "a4": 4, "a5": 5, "a6": 6, "a7": 7, "a8": 8, "a9": 9, "a10": 10, "a11": 11, "a12": 12, "a13": 13, "a14": 14, "a15": 15, "a16": 16}', [],
	'as many as can be');
fails_with($node, 'clinic', q(SELECT apm_submit('p1', (SELECT jsonb_object_agg('a' || n, n) FROM generate_series(1, 65) AS n))), '54000', qr/more than 64 searchable/,
	'a record with too many searchable values', 'doctor');

# --- who may -----------------------------------------------------------------------------------

fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Level": 1}')), '42501', qr/permission denied/, "$_ may not call it", $_) foreach qw(desk meter);
my $before = on_ledger('rule <> 0');
fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Level": 1}')), 'AP001', qr/rule "actor"/, 'who calls it without being a clinician or researcher is refused by the contract');
is(on_ledger('rule <> 0'), $before + 1, 'and stands on the ledger');
is(on_ledger('scope = 3 AND rule <> 0'), 1, 'as one who searched');
is(query($node, 'clinic', q(SELECT count(*) FROM apm_search('{"Level": 1}', 'research')), 'scholar'), '0', 'a researcher finds nothing of patients who did not let him');
query($node, 'clinic', q(SELECT apm_grant_access('p1', 'scholar', purpose => 'research')), 'desk');
poll_consent(1);
is(query($node, 'clinic', q(SELECT string_agg(rid::text, ',' ORDER BY rid) FROM apm_search('{"Level": 1}', 'research')), 'scholar'),
	join(',', sort map { $rid{$_} } qw(one two)), 'and what of those who did');

# --- who withdrew ------------------------------------------------------------------------------

my $filter = '{"Smoker": true}';
my @with = answer_of($filter);
query($node, 'clinic', q(SELECT apm_revoke_access('p3')), 'desk');
poll_consent(2);
my $asked = on_ledger('scope = 4');
finds($filter, [qw(one)], 'a patient who withdrew is left out');
is(on_ledger('scope = 4'), $asked + 2, 'though he was asked for');
is(on_ledger("scope = 4 AND rule <> 0 AND apid = (SELECT apid FROM apm.ledger_record WHERE rid = '$rid{four}')"), 1, 'and refused, on the ledger');
isnt(join('|', answer_of($filter)), join('|', @with), 'the answer differs from before');
is(join('|', answer_of('{"Level": "1"}')), join('|', answer_of('{"Level": "no such level"}')), 'who finds him alone gets what he gets who finds nobody: rows, messages and all');
$asked = on_ledger('scope = 4');
finds('{"Level": "no such level"}', [], 'nobody');
is(on_ledger('scope = 4'), $asked + 1, 'and waits for as many blocks: somebody who does not exist was asked for');

# --- what the cloud does to it ------------------------------------------------------------------

$cloud->safe_psql('postgres', 'CREATE TABLE kept AS TABLE ehr');
my $hides = qr/does not find the records that the ledger does.*hides one/s;
my $adds = qr/does not find the records that the ledger does.*does not have these tokens/s;
my $token = "(SELECT unnest(tokens) FROM ehr WHERE rid = '$rid{one}' INTERSECT SELECT unnest(tokens) FROM ehr WHERE rid = '$rid{four}')";
tampered('a row is gone', "DELETE FROM ehr WHERE rid = '$rid{one}'", $hides);
tampered('a row has no tokens', "UPDATE ehr SET tokens = '{}' WHERE rid = '$rid{one}'", $hides);
tampered('a row has one token less', "UPDATE ehr SET tokens = array_remove(tokens, $token) WHERE rid = '$rid{one}'", $hides);
tampered('the row of somebody who withdrew is gone', "DELETE FROM ehr WHERE rid = '$rid{four}'", $hides);
tampered('a token is added to a row', "UPDATE ehr SET tokens = tokens || $token WHERE rid = '$rid{two}'", $adds);
tampered('a row is added', "INSERT INTO ehr SELECT gen_random_uuid(), apid, apr, tokens FROM ehr WHERE rid = '$rid{one}'", $adds);
tampered('a token is moved to another row',
	"UPDATE ehr SET tokens = CASE rid WHEN '$rid{one}' THEN array_remove(tokens, $token) ELSE tokens || $token END WHERE rid IN ('$rid{one}', '$rid{two}')", $hides);
tampered('two rows change their contents',
	"UPDATE ehr AS e SET apr = k.apr FROM kept AS k WHERE (e.rid, k.rid) IN (('$rid{one}', '$rid{two}'), ('$rid{two}', '$rid{one}'))", qr/record .* does not match the ledger/);
tampered('a row comes twice', "ALTER TABLE ehr DROP CONSTRAINT ehr_pkey; INSERT INTO ehr SELECT * FROM ehr WHERE rid = '$rid{four}'", qr/a record twice/);
tampered('a row has no id', "ALTER TABLE ehr DROP CONSTRAINT ehr_pkey; ALTER TABLE ehr ALTER rid DROP NOT NULL; UPDATE ehr SET rid = NULL WHERE rid = '$rid{one}'", qr/no id/);
finds($filter, [qw(one)], 'all is well again');
$cloud->stop('fast');
fails_with($node, 'clinic', "SELECT * FROM apm_search('$filter')", '08000', qr/cloud store did not answer/, 'a cloud that is down: no part is given', 'doctor');
submit('nine', 'p1', '{"Diagnosis": "Fresh"}');
$cloud->start;
finds('{"Diagnosis": "Fresh"}', [qw(nine)], 'what is in the outbox or has just left it is found');

# --- what tokens tell ----------------------------------------------------------------------------

wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'everything is in the cloud');
submit('ten', 'p1', '{"Diagnosis": "Same", "Suspected": "Same"}');
wait_for($cloud, 'postgres', "SELECT count(*) = 1 FROM ehr WHERE rid = '$rid{ten}'", 'a record with one value in two attributes');
is(query($cloud, 'postgres', "SELECT cardinality(tokens) FROM ehr WHERE rid = '$rid{ten}'"), '3', 'has a token for each of them, and one for an attribute of the profile');
my $foreign = query($other, 'clinic', q(SELECT apm_submit('p1', '{"Diagnosis": "Same", "Suspected": "Same"}')), 'doctor');
wait_for($other, 'clinic', 'SELECT count(*) = 3 FROM apm.ledger_token', 'another installation has the same record');
is(query($node, 'clinic', sprintf('SELECT count(*) FROM apm.ledger_token WHERE token = ANY (%s)',
			query($other, 'clinic', q(SELECT quote_literal(array_agg(token)) || '::bytea[]' FROM apm.ledger_token)))), '0', 'and no token in common');
is(query($cloud, 'postgres', q(SELECT count(*) FROM ehr AS e WHERE e::text ~ 'Sarcoidosis|Asthma|Diagnosis'
			OR EXISTS (SELECT FROM unnest(tokens || apr) AS b WHERE encode(b, 'escape') ~ 'Sarcoidosis|Asthma|Diagnosis'))), '0', 'no value and no name of an attribute is in the cloud');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.body WHERE encode(transaction, 'escape') ~ 'Sarcoidosis|Asthma|Diagnosis')), '0', 'nor in the ledger');
is(query($node, 'clinic', q(SELECT bool_and(e.tokens = r.tokens) FROM public.ehr AS e
		JOIN (SELECT rid, array_agg(token ORDER BY token) AS tokens FROM apm.ledger_token GROUP BY rid) AS r USING (rid)), 'apm_worker'), 't', 'both have the same tokens');

# --- where it is searched ------------------------------------------------------------------------

like(query($node, 'clinic', q(EXPLAIN (VERBOSE, COSTS OFF) SELECT c.rid FROM ONLY public.ehr AS c WHERE c.tokens @> ARRAY['\x00'::bytea] LIMIT 10), 'apm_worker'),
	qr/Remote SQL: SELECT rid FROM public\.ehr WHERE \(\(tokens @> /, 'the comparison is made in the cloud');
like(slurp_file($cloud->logfile), qr/SELECT rid FROM public\.ehr WHERE \(\(tokens @> /, 'and was, when it was searched');
unlike(slurp_file($cloud->logfile), qr/SELECT rid(, apr)? FROM public\.ehr\s*$/m, 'the whole table was never asked for');

# --- an old snapshot -----------------------------------------------------------------------------

my $reader = $node->background_psql('clinic');
$reader->query_safe(q(SET ROLE doctor; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1));
submit('eleven', 'p1', '{"Diagnosis": "Later"}');
is($reader->query_safe(q(SELECT rid FROM apm_search('{"Diagnosis": "Later"}'))), $rid{eleven}, 'a reader with an old snapshot finds what the ledger has');
submit('later', 'p1', '{"Diagnosis": "Later", "Level": 2}', 'eleven');
is($reader->query_safe(q(SELECT rid FROM apm_search('{"Diagnosis": "Later"}'))), $rid{later}, 'and what amends that, though the cloud has both');
$node->safe_psql('clinic', q(SELECT apm_declare_attribute('Note', 'other', searchable => true)));
submit('twelve', 'p1', '{"Note": "b"}');
is($reader->query_safe(q(SELECT rid FROM apm_search('{"Note": "b"}'))), $rid{twelve}, 'by what is declared now');
$reader->query_safe('ROLLBACK');
$reader->quit;
is(on_ledger(q(scope = 3 AND rule = 0 AND height = (SELECT max(height) FROM apm.ledger_query WHERE scope = 3))), 1, 'and what he asked stays in the ledger');

# --- many ----------------------------------------------------------------------------------------

query($node, 'clinic', q(SELECT apm_register_patient('q' || n, jsonb_build_object('Firstname', 'First' || n, 'Lastname', 'Many')) FROM generate_series(1, 100) AS n), 'desk');
query($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record)
	SELECT 'q' || (n % 100 + 1), jsonb_build_object('Diagnosis', 'Many' || (n % 50), 'Level', 1000 + n) FROM generate_series(1, 10000) AS n), 'doctor');
wait_for($cloud, 'postgres', 'SELECT count(*) > 10000 FROM ehr', '10,000 records are in the cloud');
my $start = Time::HiRes::time();
is(query($node, 'clinic', q(SELECT count(*), count(DISTINCT pid), count(DISTINCT record->>'Diagnosis') FROM apm_search('{"Diagnosis": "Many7"}')), 'doctor'), '200|2|1',
	'200 records of two patients among 10,000');
diag(sprintf('%.0f ms for 200 of 10,000 records of 2 patients', 1000 * (Time::HiRes::time() - $start)));
$start = Time::HiRes::time();
is(query($node, 'clinic', q(SELECT count(*) FROM apm_search('{"Level": 5000}')), 'doctor'), '1', 'one among 10,000');
diag(sprintf('%.0f ms for one of 10,000 records', 1000 * (Time::HiRes::time() - $start)));

# --- no more than one may read at once ----------------------------------------------------------------

query($node, 'clinic', q(SELECT apm_set_policy('fetch_cap', '1')), 'chief');
wait_for($node, 'clinic', q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)), 'the policy is in force');
$asked = on_ledger('scope = 4');
fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Diagnosis": "Many7"}')), '54000', qr/more patients match.*None was read.*fetch_cap/s, 'more patients than the policy allows', 'doctor');
is(on_ledger('scope = 4'), $asked, 'none of them was asked for');
finds('{"Diagnosis": "Later"}', [qw(later)], 'as many as it allows');

# --- a purpose -----------------------------------------------------------------------------------------

query($node, 'clinic', q(SELECT apm_set_policy('purpose', 'required')), 'chief');
wait_for($node, 'clinic', q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)), 'another policy is in force');
fails_with($node, 'clinic', q(SELECT * FROM apm_search('{"Diagnosis": "Later"}')), 'AP001', qr/rule "purpose"/, 'a purpose is required', 'doctor');
is(query($node, 'clinic', q(SELECT rid FROM apm_search('{"Diagnosis": "Later"}', 'treatment')), 'doctor'), $rid{later}, 'and stated');
is(query($node, 'clinic', q(SELECT bool_and(ok) FROM apm_verify())), 't', 'the ledger verifies');

$node->stop;
$other->stop;
$cloud->stop;
done_testing();

sub submit
{
	my ($name, $pid, $record, $amends) = @_;

	$rid{$name} = query($node, 'clinic', sprintf(q(SELECT apm_submit('%s', '%s'%s)), $pid, $record,
			defined $amends ? ", amends => '$rid{$amends}'" : ''), 'doctor');
	return;
}

sub finds
{
	my ($filter, $names, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(query($node, 'clinic', "SELECT string_agg(rid::text, ',' ORDER BY rid) FROM apm_search('$filter')", 'doctor'),
		join(',', sort map { $rid{$_} } @$names), "found: $what");
	return;
}

# All that a reader sees.
sub answer_of
{
	my ($filter) = @_;
	my ($stdout, $stderr);

	$node->psql('clinic', "SET ROLE doctor; SELECT * FROM apm_search('$filter')", stdout => \$stdout, stderr => \$stderr);
	return ($stdout, $stderr);
}

# The number of queries on the ledger that fit.
sub on_ledger
{
	my ($which) = @_;
	return query($node, 'clinic', "SELECT count(*) FROM apm.ledger_query WHERE $which");
}

sub poll_consent
{
	my ($n) = @_;
	poll($node, 'clinic', "SELECT count(*) >= $n FROM apm.ledger_consent") or die 'the consent is not on the ledger';
	return;
}

# What is done to the cloud must be found by the search; then it is undone.
sub tampered
{
	my ($what, $sql, $message) = @_;

	$cloud->safe_psql('postgres', $sql);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	fails_with($node, 'clinic', "SELECT * FROM apm_search('$filter')", 'AP005', $message, "found out: $what", 'doctor');
	$cloud->safe_psql('postgres', q(
		DROP TABLE ehr; CREATE TABLE ehr AS TABLE kept; ALTER TABLE ehr ADD PRIMARY KEY (rid); CREATE INDEX ON ehr USING gin (tokens) WHERE tokens <> '{}'));
	return;
}
