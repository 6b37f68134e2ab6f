# Who has stored a record finds it when he reads, however soon he asks.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use Test::More;

my $node = apm_node('hospital');
my $rounds = 20;

$node->safe_psql('clinic', 'CREATE ROLE app LOGIN; GRANT apm_clinician TO app; CREATE ROLE clerk IN ROLE apm_registrar');
query($node, 'clinic', q(SELECT apm_register_patient('p', '{"Firstname": "F", "Lastname": "L"}')), 'clerk');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.ledger_patient', 'the patient is on the chain');

# each statement is a transaction of its own; nothing waits between them
my @counts = split(/\n/, query($node, 'clinic',
	join('', map { qq(SET ROLE app; INSERT INTO apm.patient_record (pid, record) VALUES ('p', '{"visit": $_}'); SELECT count(*) FROM apm_fetch('p', 'treatment');) } 1 .. $rounds)
	  =~ s/;/;\n/gr));

is_deeply(\@counts, [ 1 .. $rounds ], 'every read has the record before it');

$node->stop;
done_testing();
