# The paper's profile, against a program that shares no line with ours: what it writes we
# read, what we write it reads, the digests of the paper's Table 7 are exact, and what the
# method cannot do is refused and not done wrongly.
use strict;
use warnings;

use ApmTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $salt = '$2b$12$zlVOnTr81y64OCPYOTbpHu';
my $program = 'test/paper/method.py';
my $node = apm_node('hospital', settings => { 'apm.allow_paper_profile' => 'on' });
my $keys = key_directory($node);
my $dir = PostgreSQL::Test::Utils::tempdir();

# The program's answer to an input.
sub method
{
	my ($input, @arguments) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ '/usr/bin/python3', $program, @arguments ], \$input, \$out, \$err)
	  or die "$program @arguments: $err";
	chomp $out;
	return $out;
}

# As the doctor: what psql prints, warnings aside.
sub doctor
{
	return query($node, 'clinic', $_[0], 'doctor');
}

sub deanonymize
{
	my ($json) = @_;

	return sprintf(q{SELECT apm_deanonymize(convert_to($apr$%s$apr$, 'UTF8'), 'treatment')}, $json);
}

$node->safe_psql('clinic', q{
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;});
query($node, 'clinic', q{SELECT apm_register_patient('AF89XI96FD24',
	'{"Firstname": "Ahmed", "Lastname": "Ali"}', '{"Age": 22, "Sex": "Male"}')}, 'clerk');
query($node, 'clinic', q{SELECT apm_register_patient('P' || n, jsonb_build_object('Firstname', 'Visitor', 'Lastname', n))
	FROM generate_series(1, 5) AS n}, 'clerk');
wait_for($node, 'clinic', q{SELECT count(*) = 6 FROM apm.ledger_patient}, 'the patients are on the chain');

# keys
fails_with($node, 'clinic', q{SELECT apm_anonymize('AF89XI96FD24', '{"a": 1}', 'paper')},
	'AP002', qr/lacks the key "paper-aes.key".*paper-profile.md/s, 'without keys', 'doctor');
method('', 'keys', $keys);

# ours, read by the program
my $record = '{"Diagnosis": "Fever", "Description": "Seasonal fever associated with a cold", "Note": "حمى \"😀\""}';
my $ours = doctor(qq{SELECT convert_from(apm_anonymize('AF89XI96FD24', '$record', 'paper', '$salt'), 'UTF8')});
my $form = decode_json($ours);
is(substr($form->{aPid}, 29), '2fSGG/kwlHwlfGwgLKxYmh0cZyLYy9a', 'Table 7: the pid');
is(substr($form->{Firstname}, 29), 'piaiFDa8unHHtGVeL8qNR0wXWyBRhFG', 'Table 7: the first name');
is(substr($form->{Lastname}, 29), 'Tq1L/gFJimlN60Xy5FiN1luFLtqeOAu', 'Table 7: the last name');
is(join(' ', sort keys %$form), 'Age Description Diagnosis Firstname Lastname Note Rid Sex aPid', 'its members');

my $profiles = "$dir/profiles.json";
PostgreSQL::Test::Utils::append_to_file($profiles, encode_json([
	{ pid => 'P1', identifying => {} },
	{ pid => 'AF89XI96FD24', identifying => { Firstname => 'Ahmed', Lastname => 'Ali' } } ]));
my $whole = { Age => '22', Sex => 'Male', Firstname => 'Ahmed', Lastname => 'Ali', %{ decode_json($record) } };
is_deeply(decode_json(method($ours, 'deanonymize', $keys, $profiles)), $whole, 'the program reads what we wrote');

# the program's, read by us
my $theirs = method(encode_json({
	pid => 'AF89XI96FD24',
	identifying => { Firstname => 'Ahmed', Lastname => 'Ali' },
	attributes => { Age => 22, Empty => '', Long => 'x' x 183 } }), 'anonymize', $keys, '$2b$04$zlVOnTr81y64OCPYOTbpHu');
is_deeply(decode_json(doctor(deanonymize($theirs))),
	{ Age => '22', Empty => '', Long => 'x' x 183, Firstname => 'Ahmed', Lastname => 'Ali' },
	'we read what the program wrote');
is(doctor(q{SELECT length(convert_from(apm_anonymize('AF89XI96FD24', '{"a": "b"}', 'paper'), 'UTF8')::jsonb ->> 'aPid')}),
	60, 'without a salt, one is drawn');

# the trace
my $queries = q{SELECT count(*) FROM apm.leaf WHERE kind = 3};
my $before = $node->safe_psql('clinic', $queries);
query($node, 'clinic', 'BEGIN; ' . deanonymize($theirs) . '; ROLLBACK', 'doctor');
is($node->safe_psql('clinic', $queries), $before + 1, 'a reading that is rolled back is in the ledger');

# what is refused
sub refused
{
	my ($sql, $state, $pattern, $name) = @_;

	return fails_with($node, 'clinic', $sql, $state, $pattern, $name, 'doctor');
}
my $anonymize = q{SELECT apm_anonymize('AF89XI96FD24', %s, 'paper', '%s')};
refused(sprintf($anonymize, q{jsonb_build_object('a', repeat('x', 184))}, $salt), '54000', qr/more than 183 bytes/,
	'a value over the limit of RSA');
refused(sprintf($anonymize, q{jsonb_build_object('a', repeat('é', 92))}, $salt), '54000', qr/more than 183 bytes/,
	'the limit is in bytes');
refused(sprintf($anonymize, q{'{"aPid": 1}'}, $salt), '22023', qr/called Rid or aPid/, 'a name that the form uses itself');
refused(sprintf($anonymize, q{'[1]'}, $salt), '22023', qr/must be a JSON object/, 'a record that is no object');
refused(sprintf($anonymize, q{'{"a": 1}'}, $_), '22023', qr/not a bcrypt setting/, "a bad salt: $_")
  foreach ('$2a$12$zlVOnTr81y64OCPYOTbpHu', '$2b$31$zlVOnTr81y64OCPYOTbpHu', '$2b$12$short', "$salt/");
refused(q{SELECT apm_anonymize('AF89XI96FD24', '{"a": 1}', 'apm', 'x')}, '22023', qr/paper's profile only/,
	'nobody chooses a salt for our own profile');
refused(q{SELECT apm_anonymize('AF89XI96FD24', '{"a": 1}', 'other')}, '22023', qr/no such profile/, 'an unknown profile');
refused(deanonymize('{"aPid": "$2b$04$zlVOnTr81y64OCPYOTbpHu2fSGG/kwlHwlfGwgLKxYmh0cZyLYy9a", "Rid": "r"}'), 'AP001',
	qr/rule "patient"/, 'an aPid of nobody: the gate says so');
(my $huge = $theirs) =~ s/\$2b\$04\$/\$2b\$31\$/g;
refused(deanonymize($huge), 'XX001', qr/malformed/, 'a cost that would take years');
refused(deanonymize($_), 'XX001', qr/could not read the paper's JSON: malformed data$/m, "no such JSON: $_")
  foreach ('{"aPid": secret}', '{"aPid": 1, "Rid": "r"}', '{}', '{"aPid": "short", "Rid": "r"}');

my $altered = decode_json($theirs);
substr($altered->{Age}{value}, 20, 1) =~ tr/A-Za-z0-9/B-ZAb-za1-90/;
refused(deanonymize(encode_json($altered)), 'AP004', qr/could not open a value/, 'an altered value');
my $swapped = decode_json($theirs);
$swapped->{Firstname} = $swapped->{Lastname};
refused(deanonymize(encode_json($swapped)), 'AP015', qr/not the patient's/, 'a swapped name');

# off by default, and it says what it is
my ($stdout, $stderr);
$node->psql('clinic', 'SET ROLE doctor; ' . deanonymize($theirs), stdout => \$stdout, stderr => \$stderr);
like($stderr, qr/WARNING:  the paper's profile protects neither/, 'each use warns');
set_and_reload($node, 'apm.allow_paper_profile', 'off');
refused(sprintf($anonymize, q{'{"a": 1}'}, $salt), '0A000', qr/not allowed here/, 'Method 1 is off');
refused(deanonymize($theirs), '0A000', qr/not allowed here/, 'Method 2 is off');

done_testing();
