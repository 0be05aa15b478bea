# What TAP::Parser, on which prove is built, says of test files: one JSON object a line.
use strict;
use warnings;
use JSON::PP;
use TAP::Parser;

my $json = JSON::PP->new->canonical->latin1;
for my $file (@ARGV) {
    my $parser = TAP::Parser->new({source => $file, switches => ['-Ilib']});
    my @tests;
    while (my $result = $parser->next) {
        last if $result->is_bailout;
        next unless $result->is_test;
        push @tests, {
            number => $result->number + 0,
            status => $result->has_todo
                ? ($result->is_actual_ok ? 'unexpected_pass' : 'expected_failure')
                : !$result->is_ok ? 'failed' : $result->has_skip ? 'skipped' : 'passed',
            reason => $result->explanation || '',
        };
    }
    print $json->encode({
        file => $file,
        tests => \@tests,
        problems => $parser->has_problems ? JSON::PP::true : JSON::PP::false,
        errors => [$parser->parse_errors],
        exit => $parser->exit,
        wait => $parser->wait,
    }), "\n";
}
