"""What the tests of the checks read of findings."""


def words(findings, verdict="bad"):
    return [found.words for found in findings if found.verdict == verdict]
