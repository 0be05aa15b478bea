describe('the basket on the page', () => {
  test('shows a sum', () => expect(1 + 2).toBe(3));
  test('shows a discount', () => expect({ sum: 3 }).toHaveProperty('discount'));
  test.skip('shows the van', () => {});
  test.todo('shows the paper');
});
