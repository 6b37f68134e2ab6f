# Datasets for research: what leaves the house, what does not, and that the chain proves it.
use strict;
use warnings;

use ApmTest;
use Digest::SHA qw(sha256_hex);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital');
my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue)};
my $patients = 12;
my $visits = 8;

$node->safe_psql('clinic', q{
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;
	CREATE ROLE scholar; GRANT apm_researcher TO scholar;
	CREATE ROLE auditor; GRANT apm_auditor TO auditor;
	SELECT apm_declare_attribute(name, 'other', searchable => name = 'Sex', exportable => true)
		FROM unnest(ARRAY['Sex', 'Weight', 'Smoker', 'Remark']) AS a (name);});
query($node, 'clinic', qq{SELECT apm_register_patient('p' || g, jsonb_build_object('Firstname', 'Name' || g), '{"Town": "El Oued"}')
	FROM generate_series(1, $patients) AS g}, 'clerk');
query($node, 'clinic', qq{INSERT INTO apm.patient_record (pid, record)
	SELECT 'p' || p, jsonb_build_object('Sex', CASE p % 2 WHEN 0 THEN 'F' ELSE 'M' END, 'Weight', p * 100 + v,
		'Smoker', p % 3 = 0, 'Diagnosis', 'influenza', 'Remark', repeat('Amina came with her mother. ', 3))
	FROM generate_series(1, $patients) AS p, generate_series(1, $visits) AS v}, 'doctor');
query($node, 'clinic', q{SELECT apm_submit('p1', '{"Remark": "short"}'), apm_submit('p1', '{"Diagnosis": "nothing of this may go out"}')},
	'doctor');
wait_for($node, 'clinic', $arrived, 'the records are on the chain');

# The file of a dataset, as psql -At writes it.
sub export_file
{
	my ($arguments) = @_;

	return query($node, 'clinic', "SELECT * FROM apm_export($arguments)", 'scholar') . "\n";
}

sub rows_of
{
	return map { decode_json($_) } split /\n/, $_[0];
}

sub last_release
{
	my ($column) = @_;

	return query($node, 'clinic', "SELECT $column FROM apm.export_release ORDER BY height DESC, \"position\" DESC LIMIT 1", 'auditor');
}

# one dataset
my $first = export_file(q{'heart-2026'});
my @rows = rows_of($first);
is(scalar(@rows), $patients * $visits + 1, 'every record with something to export is a row');
is(last_release('digest'), sha256_hex($first), q(the digest on the chain is the file's));
is(last_release('rows'), scalar(@rows), 'so is the number of rows');
is(last_release('study || release'), 'heart-20261', 'study and number of the release');
my %names = map { $_ => 1 } map { keys %{ $_->{attributes} } } @rows;
is(join(' ', sort keys %names), 'Remark Sex Smoker Weight', 'attributes that are declared exportable, no others');
is(scalar(grep { length($_->{attributes}{Remark} // '') > 40 } @rows), 0, 'sentences stay at home');
unlike($first, qr/Amina|Name\d|El Oued|influenza|\bp\d/, 'no name, no pid, no other attribute');
is(scalar(grep { $_->{period} !~ /^\d{4}-\d\d$/ } @rows), 0, 'times are months');
my %per_patient;
push @{ $per_patient{ $_->{patient} } }, $_ foreach @rows;
is(scalar(keys %per_patient), $patients, 'one pseudonym a patient');
is(query($node, 'clinic', q{SELECT string_agg(study, ',') FROM apm_access_history('p3', 'audit') WHERE access = 'export' AND allowed}, 'auditor'),
	'heart-2026', q(the export is in each patient's history));

# another one, for another study
my $second = export_file(q{'lungs-2026'});
my @others = rows_of($second);
my %seen = map { $_->{patient} => 1 } @rows;
is(scalar(grep { $seen{ $_->{patient} } } @others), 0, 'two studies share no pseudonym');
my $rids = query($node, 'clinic', q{SELECT string_agg(rid::text, '|') FROM apm_fetch('p1')}, 'doctor');
unlike($first . $second, qr/$rids/, 'no Rid');
unlike($first . $second, qr/\d\d:\d\d/, 'no exact time');
my @order = map { $_->{attributes}{Weight} // 0 } @rows;
my @other_order = map { $_->{attributes}{Weight} // 0 } @others;
is(join(' ', sort { $a <=> $b } @order), join(' ', sort { $a <=> $b } @other_order), 'the same values');
isnt("@order", "@other_order", 'in another order');

# the same study again
my $again = export_file(q{'heart-2026'});
is(last_release('study || release'), 'heart-20262', 'a second release');
is(join(' ', sort map { $_->{patient} } rows_of($again)), join(' ', sort map { $_->{patient} } @rows),
	'within a study pseudonyms stay');

# a selection, and what a researcher names
my @women = rows_of(export_file(q{'women', ARRAY['Weight', 'Remark'], '{"Sex": "F"}', 'year'}));
is(scalar(@women), $patients / 2 * $visits, 'a selection');
is(scalar(grep { $_->{attributes}{Weight} % 200 > 99 } @women), 0, 'of those who were asked for');
is($women[0]{period}, (gmtime)[5] + 1900, 'years');
is(scalar(grep { length($_->{attributes}{Remark} // '') > 40 } @women), scalar(@women), 'a long text that was asked for by name');

# a patient who withdraws
query($node, 'clinic', q{SELECT apm_revoke_access('p2', purpose => 'research')}, 'clerk');
wait_for($node, 'clinic', $arrived, 'a withdrawal from research');
my @without = rows_of(export_file(q{'heart-2026'}));
is(scalar(@without), scalar(@rows) - $visits, 'who withdrew is not in the next release');
is(scalar(grep { ($_->{attributes}{Weight} // 0) =~ /^20\d$/ } @without), 0, 'none of his rows');
is(query($node, 'clinic', q{SELECT string_agg(rule, ',') FROM apm_access_history('p2', 'audit') WHERE NOT allowed}, 'auditor'),
	'consent', 'and his history shows the refusal');

# who, and what, is refused
fails_with($node, 'clinic', q{SELECT * FROM apm_export('heart-2026')}, '42501', qr/permission denied/, 'clinicians do not export', 'doctor');
fails_with($node, 'clinic', q{SELECT * FROM apm_export('Heart disease')}, '22023', qr/no name of a study/, 'a study with a wrong name', 'scholar');
fails_with($node, 'clinic', q{SELECT * FROM apm_export(NULL)}, '22004', qr/must not be null/, 'no study', 'scholar');
fails_with($node, 'clinic', q{SELECT * FROM apm_export('a', ARRAY['Diagnosis'])}, '22023', qr/attribute 1 of the list/, 'an attribute that stays', 'scholar');
fails_with($node, 'clinic', q{SELECT * FROM apm_export('a', time_step => 'second')}, '22023', qr/no such time step/, 'an exact time', 'scholar');
fails_with($node, 'clinic', q{SELECT * FROM apm_export('a', selection => '{"Weight": 101}')}, '22023', qr/searchable/,
	'a selection by an attribute that is not searchable', 'scholar');
$node->safe_psql('clinic', q{SELECT apm_declare_attribute('Diagnosis', 'other', searchable => true)});
fails_with($node, 'clinic', q{SELECT * FROM apm_export('a', selection => '{"Sex": "F", "Diagnosis": "influenza"}')}, '22023', qr/selection is not declared exportable/,
	'a selection by an attribute that stays, which would tell who has it', 'scholar');
$node->safe_psql('clinic', 'CREATE ROLE twofold; GRANT apm_researcher, apm_registrar TO twofold');
fails_with($node, 'clinic', q{SELECT * FROM apm_export('a')}, 'AP001', qr/rule "actor"/,
	'who may ask for nobody gets an error, and no empty dataset', 'twofold');
is(query($node, 'clinic', q{SELECT count(*) FROM apm.export_release WHERE study = 'a'}, 'auditor'), 0, 'none of these is a release');

# nobody in a selection takes as many blocks as patients who are left out
my $asked = query($node, 'clinic', 'SELECT count(*) FROM apm.ledger_query', undef);
is(query($node, 'clinic', q{SELECT count(*) FROM apm_export('nobody', selection => '{"Sex": "X"}')}, 'scholar'), 0, 'a selection that nobody fits');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.ledger_query', undef), $asked + 2, 'a search, and a patient who does not exist');

# what a researcher begins and takes back is on the ledger all the same
query($node, 'clinic', q{BEGIN; SELECT count(*) FROM apm_export('taken-back'); ROLLBACK}, 'scholar');
is(last_release('study'), 'taken-back', 'a release whose reader rolls back');

# sealed
{
	my $home = PostgreSQL::Test::Utils::tempdir;
	my @gpg = ('gpg', '--batch', '--homedir', $home);

	chmod(0700, $home);
	run_log([ @gpg, '--passphrase', '', '--quick-generate-key', 'scholar@example.org', 'default', 'default', 'never' ])
	  or die 'gpg does not make a key';
	my ($key, $error) = run_command([ @gpg, '--armor', '--export', 'scholar@example.org' ]);
	$node->safe_psql('clinic', "CREATE TABLE public_key (armored text); INSERT INTO public_key VALUES (\$key\$$key\n\$key\$);
		GRANT SELECT ON public_key TO scholar");
	my $sealed = query($node, 'clinic', q{SELECT encode(apm_export_encrypted('sealed', (SELECT armored FROM public_key)), 'hex')}, 'scholar');
	append_to_file("$home/sealed.gpg", pack('H*', $sealed));
	run_log([ @gpg, '--output', "$home/opened", '--decrypt', "$home/sealed.gpg" ]);
	is(sha256_hex(slurp_file("$home/opened")), last_release('digest'), 'gpg opens a sealed dataset, and its digest is on the chain');
	is(scalar(rows_of(slurp_file("$home/opened"))), scalar(@without), 'with the rows that it has in clear');
	run_log([ 'gpgconf', '--homedir', $home, '--kill', 'all' ]);
}
my $releases = query($node, 'clinic', 'SELECT count(*) FROM apm.ledger_query', undef);
fails_with($node, 'clinic', q{SELECT apm_export_encrypted('sealed', 'no key')}, '22023', qr/not an OpenPGP public key/, 'no key', 'scholar');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.ledger_query', undef), $releases, 'with a wrong key no patient is asked for');

is(query($node, 'clinic', 'SELECT ok FROM apm_verify()', undef), 't', 'the chain verifies');
$node->stop;
done_testing();
