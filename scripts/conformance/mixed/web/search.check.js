test.each(['apple', 'pear'])('finds %s', (word) => expect(['apple', 'pear']).toContain(word));
